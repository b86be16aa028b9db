//! What a server says when it is up: a developer is greeted with where it listens, where the data is, which apps it knows
//! and what to do next; in production a line of the log says so.

use std::io::IsTerminal as _;

use crate::daemon::{Daemon, Then};
use crate::settings::{LogFormat, Mode, Settings};

/// Greets on the standard output or in the log, and goes on serving.
///
/// # Errors
/// Never; a greeting that nobody reads is no reason to stop.
pub async fn greet(daemon: &Daemon, settings: &Settings) -> anyhow::Result<Then> {
    match settings.mode {
        Mode::Dev => {
            if std::io::stdout().is_terminal() || settings.log.format != LogFormat::Json {
                print!("{}", greeting(daemon, settings));
            }
        }
        Mode::Start => tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            node = settings.node.name,
            addresses = addresses(daemon),
            store = store(settings),
            "listening"
        ),
    }
    Ok(Then::Serve)
}

fn addresses(daemon: &Daemon) -> String {
    let addresses = daemon.addresses().iter().map(|address| format!("http://{address}"));
    addresses.collect::<Vec<_>>().join(", ")
}

/// Where the data is; without passwords.
fn store(settings: &Settings) -> String {
    match &settings.database.url {
        Some(url) => url.to_string(),
        None => settings.data.dir.display().to_string(),
    }
}

fn greeting(daemon: &Daemon, settings: &Settings) -> String {
    let port = daemon
        .addresses()
        .first()
        .map_or(settings.api.port, std::net::SocketAddr::port);
    let catalog = daemon.orchestrator().catalog();
    let apps: Vec<_> = catalog
        .apps()
        .iter()
        .filter(|view| view.functions.iter().any(|f| !f.archived))
        .collect();
    let mut text = format!(
        "\nCallboard {} is running.\n\n  API       {}\n  Data      {}\n",
        env!("CARGO_PKG_VERSION"),
        addresses(daemon),
        store(settings),
    );
    if apps.is_empty() {
        text += "  Apps      none yet\n\nNext:\n";
        text += match (settings.sdk.urls.is_empty(), settings.sdk.discovery) {
            (false, _) => "  The apps at the URLs you gave are being asked for their functions.\n",
            (true, true) => "  Start your app with INNGEST_DEV=1; it is found on the usual local ports by itself.\n",
            (true, false) => "  Start again with --sdk-url http://localhost:3000/api/inngest, the URL of your app.\n",
        };
    } else {
        let names = apps.iter().map(|view| {
            let count = view.functions.iter().filter(|function| !function.archived).count();
            format!("{} ({count} functions) at {}", view.app.name, view.app.url)
        });
        text += &format!(
            "  Apps      {}\n\nNext:\n",
            names.collect::<Vec<_>>().join("\n            ")
        );
    }
    text += &format!(
        "  Send an event:  curl -X POST http://localhost:{port}/e/dev -d '{{\"name\":\"test/hello\",\"data\":{{}}}}'\n  \
         See its runs:   curl http://localhost:{port}/api/v1/runs\n  \
         See the actors: callboard status\n\n"
    );
    text
}
