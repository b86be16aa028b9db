//! `callboard health`: asks a server how it is. For the health checks of containers and service managers, whose images have
//! no other HTTP client.
//!
//! Promises: it succeeds if the server says that it is well, and fails if it says otherwise or nothing.
//! Never: needs a key.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::flags::SettingsArgs;
use crate::error::{Code, Problem};
use crate::settings::{ApiSettings, FILE_VARIABLE, Mode};

const PATIENCE: Duration = Duration::from_secs(5);

/// As much of an answer as is shown, in bytes.
const SHOWN: usize = 64 * 1024;

/// Arguments of `callboard health`.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Address of the server [default: where a server with this environment and file would listen]
    #[arg(long)]
    pub url: Option<String>,
    /// Settings file of that server
    #[arg(long, value_name = "FILE", env = FILE_VARIABLE)]
    pub config: Option<PathBuf>,
    /// Ask whether it takes work, in place of whether it is alive.
    #[arg(long)]
    pub ready: bool,
}

/// Asks the server. Answers what it said.
///
/// # Errors
/// [`Code::NoAnswer`] without an answer, [`Code::Unavailable`] with one that is no success; those of the settings if they
/// have to say where the server is.
pub async fn ask(args: &HealthArgs) -> Result<String, Problem> {
    let origin = match &args.url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => {
            let flags = SettingsArgs {
                config: args.config.clone(),
                ..SettingsArgs::default()
            };
            origin(&flags.load(Mode::Start)?.settings.api)
        }
    };
    let path = if args.ready { "/health/ready" } else { "/health" };
    let url = format!("{origin}{path}");
    let no_answer = |why: String| Problem::new(Code::NoAnswer, format!("{url}: {why}"));
    let request = awc::Client::builder().timeout(PATIENCE).finish().get(&url);
    let mut answer = request.send().await.map_err(|error| no_answer(error.to_string()))?;
    let body = answer.body().limit(SHOWN).await;
    let body = body.map_err(|error| no_answer(error.to_string()))?;
    let body = String::from_utf8_lossy(&body).into_owned();
    if answer.status().is_success() {
        return Ok(body);
    }
    let message = format!("{url}: {}: {body}", answer.status());
    Err(Problem::new(Code::Unavailable, message))
}

/// Where a server on this machine is that listens so.
fn origin(api: &ApiSettings) -> String {
    let ip = match api.addr.parse() {
        // All addresses; the loopback one is among them.
        Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) | Err(_) => Ipv4Addr::LOCALHOST.into(),
        Ok(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) => Ipv6Addr::LOCALHOST.into(),
        Ok(ip) => ip,
    };
    format!("http://{}", SocketAddr::new(ip, api.port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_asked_where_it_listens() {
        for (addr, expected) in [
            ("0.0.0.0", "http://127.0.0.1:4711"),
            ("localhost", "http://127.0.0.1:4711"),
            ("10.1.2.3", "http://10.1.2.3:4711"),
            ("::", "http://[::1]:4711"),
        ] {
            let api = ApiSettings {
                addr: addr.to_owned(),
                port: 4711,
                graphql: true,
                testing: false,
            };
            assert_eq!(origin(&api), expected);
        }
    }
}
