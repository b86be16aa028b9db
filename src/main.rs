//! The `callboard` binary: reads the command line and hands over.

use std::process::ExitCode;

use callboard::cli::flags::SettingsArgs;
use callboard::cli::inherited::InheritedArgs;
use callboard::cli::{self, Cli, Command};
use callboard::error::Problem;
use callboard::settings::Mode;
use callboard::{daemon, demo};
use clap::Parser as _;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            match error.downcast_ref::<Problem>() {
                Some(problem) => eprintln!("{}", cli::explain(problem)),
                None => eprintln!("{error:#}"),
            }
            match cli.command {
                // Not to be taken for a finding.
                Command::Doctor(_) => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    match &cli.command {
        Command::Dev(args) => serve(&args.settings, &args.inherited, Mode::Dev)?,
        Command::Start(args) => serve(&args.settings, &args.inherited, Mode::Start)?,
        Command::Demo(args) => demo::run(args)?,
        Command::Status(args) => {
            let status = actix_rt::System::new().block_on(cli::status::ask(args))?;
            if args.json {
                println!("{status:#}");
            } else {
                print!("{}", cli::status::render(&status));
            }
        }
        Command::Health(args) => println!("{}", actix_rt::System::new().block_on(cli::health::ask(args))?),
        Command::Limits(args) => {
            print!("{}", actix_rt::System::new().block_on(cli::limits::run(args))?);
        }
        Command::Keys(args) => {
            print!("{}", actix_rt::System::new().block_on(cli::keys::run(args))?);
        }
        Command::Gatherings(args) => {
            print!("{}", actix_rt::System::new().block_on(cli::gatherings::run(args))?);
        }
        Command::Slots(args) => {
            print!("{}", actix_rt::System::new().block_on(cli::slots::run(args))?);
        }
        Command::Workers(args) => {
            print!("{}", actix_rt::System::new().block_on(cli::workers::run(args))?);
        }
        Command::Runs(args) => {
            print!("{}", actix_rt::System::new().block_on(cli::runs::run(args))?);
        }
        Command::Operations(args) => {
            print!("{}", actix_rt::System::new().block_on(cli::operations::run(args))?);
        }
        Command::Functions(args) => {
            print!("{}", actix_rt::System::new().block_on(cli::functions::run(args))?);
        }
        Command::DeadLetters(args) => {
            print!("{}", actix_rt::System::new().block_on(cli::dead_letters::run(args))?);
        }
        Command::Doctor(args) => {
            let report = actix_rt::System::new().block_on(cli::doctor::examine(args))?;
            if args.json {
                println!("{:#}", report.to_json());
            } else {
                print!("{}", report.render());
            }
            if !report.is_healthy() {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Config(args) => {
            let loaded = args.settings.load_with(args.mode, &args.inherited)?;
            for warning in &loaded.warnings {
                eprintln!("warning: {warning}");
            }
            print!("{}", cli::config::render(&loaded.effective));
        }
        Command::Migrate(args) => {
            println!("{}", actix_rt::System::new().block_on(cli::migrate::run(args))?);
        }
        Command::Version => println!("callboard {}", env!("CARGO_PKG_VERSION")),
    }
    Ok(ExitCode::SUCCESS)
}

fn serve(args: &SettingsArgs, inherited: &InheritedArgs, mode: Mode) -> anyhow::Result<()> {
    let loaded = args.load_with(mode, inherited)?;
    callboard::telemetry::start(&loaded.settings.log);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    daemon::run(&loaded.settings, async |daemon| {
        cli::serve::greet(daemon, &loaded.settings).await
    })
}
