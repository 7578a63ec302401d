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
use crate::policy;
use crate::session::launch::Launcher;
use crate::session::recover;
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
    let context = Context::open(global)?;
    let model = prepare::model(&args, &request)?;
    let facts = prepare::facts(&context, &request, &model)?;
    // The engine's host has a say in the limits, and is asked last; all that can be mended is said without it.
    policy::judge(request.clone(), facts.clone()).map_err(CliError::usage)?;
    let (engine, info) = context.engine().await?;
    let request = prepare::fit(request, args.cpus, &info)?;
    let permit = policy::judge(request, facts).map_err(CliError::usage)?;
    let launcher = context.launcher(engine, &info);
    clear_away_the_dead(&launcher).await?;
    let header = printer::header(&permit);
    // Before there is anything that a signal could leave behind.
    let mut signals = Signals::new().map_err(CliError::environment)?;
    let session = launcher.launch(permit, model.upstream).await.map_err(CliError::environment)?;
    attend::attend(session, &mut signals, &context.store, attend, header).await
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
