//! A reader of the text format, as strict as those who scrape it, for tests.

use std::collections::{BTreeMap, BTreeSet};

/// What an exposition says.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    /// Each family's type.
    pub(crate) types: BTreeMap<String, String>,
    /// Each sample's value, by its name with labels as written.
    pub(crate) samples: BTreeMap<String, f64>,
}

impl Exposition {
    /// Reads a text.
    ///
    /// # Panics
    /// When it is not as the format has it.
    pub(crate) fn parse(text: &str) -> Self {
        let text = text.strip_suffix("# EOF\n").expect("the end is marked");
        let mut found = Self::default();
        let (mut family, mut helped) = (String::new(), BTreeSet::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a name and a text");
                assert!(is_name(name) && !help.is_empty(), "{line}");
                assert!(helped.insert(name.to_owned()), "described twice: {line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a name and a type");
                assert!(helped.contains(name), "no help before {line}");
                assert!(["counter", "gauge", "histogram", "info"].contains(&kind), "{line}");
                assert!(found.types.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
                name.clone_into(&mut family);
            } else {
                let (sample, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
                let (name, labels) = sample.split_at(sample.find('{').unwrap_or(sample.len()));
                check_labels(labels);
                let suffixes: &[&str] = match &*found.types[&family] {
                    "counter" => &["_total"],
                    "histogram" => &["_bucket", "_count", "_sum"],
                    "info" => &["_info"],
                    _ => &[""],
                };
                let suffix = name.strip_prefix(&*family);
                assert!(
                    suffix.is_some_and(|suffix| suffixes.contains(&suffix)),
                    "{line} in {family}"
                );
                let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
                assert!(value.is_finite(), "{line}");
                let known = found.samples.insert(sample.to_owned(), value);
                assert!(known.is_none(), "said twice: {line}");
            }
        }
        found.check_histograms();
        found
    }

    /// The value of a sample; 0 if it is not there.
    pub(crate) fn value(&self, sample: &str) -> f64 {
        self.samples.get(sample).copied().unwrap_or(0.0)
    }

    /// The names under which samples of each family may appear in a query.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        let name = |(name, kind): (&String, &String)| match &**kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.clone(),
        };
        self.types.iter().map(name).collect()
    }

    /// Buckets never fall, and the last one holds everything.
    fn check_histograms(&self) {
        for (sample, count) in &self.samples {
            let (name, braced) = sample.split_at(sample.find('{').unwrap_or(sample.len()));
            let Some(name) = name.strip_suffix("_count") else {
                continue;
            };
            let labels = braced.trim_start_matches('{').trim_end_matches('}');
            let rest = if labels.is_empty() {
                String::new()
            } else {
                format!(",{labels}")
            };
            let mut buckets: Vec<(f64, f64)> = self
                .samples
                .iter()
                .filter_map(|(sample, count)| {
                    let le = sample.strip_prefix(&format!("{name}_bucket{{le=\""))?;
                    let le = le.strip_suffix(&format!("\"{rest}}}"))?;
                    Some((le.parse().ok()?, *count))
                })
                .collect();
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{sample}: {buckets:?}");
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)), "{sample}");
            assert!(self.samples.contains_key(&format!("{name}_sum{braced}")), "{sample}");
        }
    }
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    let is_start = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    bytes.next().is_some_and(is_start) && bytes.all(|byte| is_start(byte) || byte.is_ascii_digit())
}

/// `{name="value",…}` with `\`, `"` and line ends escaped, or nothing.
fn check_labels(labels: &str) {
    if labels.is_empty() {
        return;
    }
    let inner = labels.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let mut rest = inner.unwrap_or_else(|| panic!("{labels}"));
    while !rest.is_empty() {
        let (name, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("{labels}"));
        assert!(is_name(name), "{labels}");
        let mut is_escaped = false;
        let end = value.find(|letter| {
            let ends = letter == '"' && !is_escaped;
            is_escaped = letter == '\\' && !is_escaped;
            ends
        });
        rest = &value[end.unwrap_or_else(|| panic!("no end: {labels}")) + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}
