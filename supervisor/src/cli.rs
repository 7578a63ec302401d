//! The command line: typed flags, resolved into requests, carried out by one function a command.
//!
//! Standard output carries what was asked for (transcript, table, JSON); progress, warnings and errors go to standard
//! error, both through [`say`]. Nothing that came out of a container reaches a terminal without [`show::sanitize`].

pub mod args;
pub mod commands;
pub mod context;
pub mod exit;
pub mod log;
pub mod say;
pub mod show;

use clap::{CommandFactory, FromArgMatches};

use args::config::ConfigCommand;
use args::service::ServiceCommand;
use args::{Args, Command, ImageCommand};
use exit::Exit;

/// Runs the program with the process's arguments and environment.
pub async fn main() -> Exit {
    let matches = match Args::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            // Prints help to standard output and errors to standard error, with the code 0 or 2 that belongs to them.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Ok };
        }
    };
    let args = match Args::from_arg_matches(&matches) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return Exit::Usage;
        }
    };
    // The service's log is as it is configured.
    let verbose = args.global.verbose;
    let log = (!matches!(args.command, Command::Serve(_))).then(|| log::Log::start(verbose));
    let style = show::style::Style::resolve(args.global.color);
    let done = dispatch(args).await;
    if let Some(log) = log {
        log.finish();
    }
    match done {
        Ok(exit) => exit,
        Err(error) => {
            say::last(show::style::error(style, &error.to_string()));
            error.exit()
        }
    }
}

async fn dispatch(args: Args) -> Result<Exit, exit::CliError> {
    let global = args.global;
    match args.command {
        Command::Run(run) => commands::run::run(&global, *run).await,
        Command::Ps(ps) => commands::ps::run(&global, &ps).await,
        Command::Logs(logs) => commands::logs::run(&global, &logs).await,
        Command::History(history) => commands::records::history(&global, &history).await,
        Command::Show(show) => commands::records::show(&global, &show).await,
        Command::Export(export) => commands::records::export(&global, &export).await,
        Command::Stop(stop) => commands::control::stop(&global, &stop).await,
        Command::Queue(queue) => commands::queue::run(&global, &queue).await,
        Command::Agents(agents) => commands::agents::run(&global, &agents).await,
        Command::Audit(audit) => commands::audit::run(&global, &audit).await,
        Command::Send(send) => commands::control::send(&global, &send).await,
        Command::Interrupt(interrupt) => commands::control::interrupt(&global, &interrupt).await,
        Command::Serve(serve) => commands::serve::run(&global, &serve).await,
        Command::Image { command: ImageCommand::Build(build) } => commands::image::build(&global, &build).await,
        Command::Image { command: ImageCommand::Status(status) } => commands::image::status(&global, &status).await,
        Command::Doctor(doctor) => commands::doctor::run(&global, &doctor).await,
        Command::Config { command: ConfigCommand::Check(check) } => commands::config::check(&global, &check),
        Command::Config { command: ConfigCommand::Show(show) } => commands::config::show(&global, &show),
        Command::Service { command: ServiceCommand::Install(install) } => {
            commands::service::install(&global, &install).await
        }
        Command::Service { command: ServiceCommand::Uninstall(uninstall) } => {
            commands::service::uninstall(&global, &uninstall).await
        }
        Command::Service { command: ServiceCommand::Status(status) } => {
            commands::service::status(&global, &status).await
        }
        Command::HandOverListener { address } => commands::hand_over::run(address),
        Command::Completions { shell } => commands::completions::run(shell),
    }
}
