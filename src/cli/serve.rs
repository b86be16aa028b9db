//! What `callboard dev` says when it is up: where it listens, where the data is, which apps it knows, what to do next.

use std::io::IsTerminal as _;

use crate::daemon::{Daemon, Then};
use crate::settings::Settings;

/// Greets on the standard output, and goes on serving.
///
/// # Errors
/// Never; a greeting that nobody reads is no reason to stop.
pub async fn greet(daemon: &Daemon, settings: &Settings) -> anyhow::Result<Then> {
    if std::io::stdout().is_terminal() || settings.log.format != crate::settings::LogFormat::Json {
        print!("{}", greeting(daemon, settings));
    }
    Ok(Then::Serve)
}

fn greeting(daemon: &Daemon, settings: &Settings) -> String {
    let port = daemon
        .addresses()
        .first()
        .map_or(settings.api.port, std::net::SocketAddr::port);
    let addresses: Vec<_> = daemon
        .addresses()
        .iter()
        .map(|address| format!("http://{address}"))
        .collect();
    let catalog = daemon.orchestrator().catalog();
    let apps: Vec<_> = catalog
        .apps()
        .iter()
        .filter(|view| view.functions.iter().any(|f| !f.archived))
        .collect();
    let mut text = format!(
        "\nCallboard {} is running.\n\n  API       {}\n  Data      {}\n",
        env!("CARGO_PKG_VERSION"),
        addresses.join(", "),
        settings.data.dir.display(),
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
