//! `aigo run`: from flags to a request, to a session, to what a person sees.

mod attend;
mod keyboard;
mod person;
mod prepare;
mod printer;
mod printing;
mod signals;

use crate::cli::args::{Global, OutputFormat, RunArgs};
use crate::cli::context::Context;
use crate::cli::exit::{CliError, Exit};
use crate::cli::say;
use crate::cli::show::style::Style;
use crate::client::{self, ClientError};
use crate::door::{Admitted, Door, Refused};
use crate::policy::env;
use crate::request::SessionRequest;
use crate::request::wire::NewSession;
use crate::serve::lock::Holder;
use crate::session::launch::Launcher;
use crate::session::{recover, remote};
use keyboard::Keyboard;
use signals::Signals;

/// Runs a session and stays with it until its end.
pub async fn run(global: &Global, args: RunArgs) -> Result<Exit, CliError> {
    let output = if args.json { OutputFormat::Json } else { args.output };
    let keyboard = keyboard::is_ours();
    let interactive = keyboard == Keyboard::Terminal && args.prompt_file.is_none();
    let lines = interactive || (args.steer && keyboard != Keyboard::InTheBackground);
    let attend = attend::Options { interactive, lines, output, style: Style::resolve(global.color) };
    // Whatever is wrong with what was asked is said before anything outside is touched.
    let request = prepare::request(&args, interactive)?;
    // Every form of output leaves standard error to people.
    for warning in env::warnings(&request.env) {
        say::aside(format_args!("warning: {warning}"));
    }
    let context = Context::open(global)?;
    if let Some(service) = context.service() {
        return by_service(&context, &service, request, args.detach, attend).await;
    }
    if args.detach {
        return Err(CliError::usage(anyhow::anyhow!(
            "--detach leaves the session to a service, and none runs here: start one with `aigo serve`"
        )));
    }
    if let Some(agent) = &args.agent {
        return Err(CliError::usage(anyhow::anyhow!(
            "--agent {agent}: a service holds sessions to their agents' limits, and none runs here: start one with \
             `aigo serve`, or leave --agent out"
        )));
    }
    let door = Door {
        own_folders: vec![context.dirs.root().to_owned()],
        upstream: None,
        allow_plain_http: args.allow_plain_http,
    };
    let asking = door.ask(request).map_err(refused)?;
    let (engine, info) = context.engine().await?;
    let Admitted { permit, upstream } = asking.admit(args.cpus.is_some(), &info).map_err(refused)?;
    let launcher = context.launcher(engine, &info);
    clear_away_the_dead(&launcher).await?;
    let header = printer::header(permit.request());
    // Before there is anything that a signal could leave behind.
    let mut signals = Signals::new().map_err(CliError::environment)?;
    let session = launcher.launch(permit, upstream).await.map_err(CliError::environment)?;
    attend::attend(session, &mut signals, &context.store, attend, header).await
}

/// Has the service that runs own the session, and stays with it all the same.
async fn by_service(
    context: &Context,
    service: &Holder,
    request: SessionRequest,
    detach: bool,
    options: attend::Options,
) -> Result<Exit, CliError> {
    let request = prepare::absolute(request)?;
    let header = printer::header(&request);
    let mut signals = Signals::new().map_err(CliError::environment)?;
    let started = client::start(&service.socket, &NewSession::from(request)).await;
    let id = started.map_err(|error| match error {
        ClientError::Refused(_) => CliError::usage(error),
        ClientError::Connect { .. } | ClientError::NoAnswer(_) | ClientError::Unavailable(_) => {
            CliError::environment(error)
        }
    })?;
    if detach {
        say::line(&id)?;
        return Ok(Exit::Ok);
    }
    let session = remote::attend(id, context.store.clone(), &context.dirs);
    attend::attend(session, &mut signals, &context.store, options, header).await
}

/// A missing credential is not a mistake in what was asked.
fn refused(refused: Refused) -> CliError {
    match refused {
        Refused::Access(error) => CliError::environment(error),
        Refused::Remapped => CliError::environment(refused),
        Refused::Folder { .. } | Refused::Script(_) | Refused::Record(_) | Refused::Cpus(_) | Refused::Denied(_) => {
            CliError::usage(refused)
        }
    }
}

/// Before anything new: mount points of a dead session may lie in this very folder.
async fn clear_away_the_dead(launcher: &Launcher) -> Result<(), CliError> {
    if recover::is_due(launcher).await.map_err(CliError::environment)? {
        let swept = recover::sweep(launcher).await;
        for id in &swept.sessions {
            say::aside(format_args!("cleared away what session {id} had left when its aigo process died"));
        }
        for problem in &swept.problems {
            say::aside(format_args!("warning: {problem}"));
        }
    }
    Ok(())
}
