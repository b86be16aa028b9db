//! One spelling for each address, so that the same app is recognised again.

use url::Url;

/// The customary spelling of a serve URL or a function's URL: without the parameters of a single request, the rest of
/// the query sorted, without default ports, every IPv4 spelling of the loopback as `localhost`.
///
/// A text that is no URL comes back as it is; validation has its own word on it.
#[must_use]
pub fn normalise(text: &str) -> String {
    let Ok(mut url) = Url::parse(text.trim()) else {
        return text.trim().to_owned();
    };
    let mut pairs: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(name, _)| name != "deployId" && name != "probe")
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    pairs.sort();
    if pairs.is_empty() {
        url.set_query(None);
    } else {
        url.query_pairs_mut().clear().extend_pairs(pairs);
    }
    url.set_fragment(None);
    loopback_folded(url).into()
}

/// The same URL with `localhost` for 127.0.0.1 and 0.0.0.0.
#[must_use]
pub fn loopback_folded(mut url: Url) -> Url {
    if matches!(url.host_str(), Some("127.0.0.1" | "0.0.0.0")) {
        // Not for schemes without a host to set; those have no such host either.
        let _ = url.set_host(Some("localhost"));
    }
    url
}
