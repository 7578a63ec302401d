//! `aigo image build`, `aigo image status`.

mod show;

use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::args::{Global, ImageBuildArgs, ImageStatusArgs};
use crate::cli::context::Context;
use crate::cli::exit::{CliError, Exit};
use crate::cli::say;
use crate::cli::show::sanitize::one_line;
use crate::cli::show::style::Style;
use crate::image::{self, BuildRequest, Built, HostSettings, ImageError};
use show::{BuildView, status_text, versions_text};

/// Characters of a line of the failing step that are shown.
const TAIL_CHARS: usize = 200;

/// The last line of `--json`.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Outcome<'a> {
    Built(&'a Built),
    Failed { message: String, tail: &'a [String] },
}

/// Builds the image.
pub async fn build(global: &Global, args: &ImageBuildArgs) -> Result<Exit, CliError> {
    let context = Context::open(global)?;
    let (engine, _info) = context.engine().await?;
    let request = BuildRequest {
        tag: args.tag.clone(),
        base: args.base.clone(),
        no_cache: args.no_cache,
        certificates: args.ca.clone(),
        runner: args.runner.clone(),
        host: HostSettings::of_process(),
    };
    let style = Style::resolve(global.color);
    let cancel = cancel_on_signals()?;
    let mut view = BuildView::new(args.json, global.verbose > 0);
    let result = image::build(&*engine, &context.dirs, &request, &cancel, |progress| view.take(&progress)).await;
    view.finish();
    cancel.cancel();
    if args.json {
        let last = match &result {
            Ok(built) => Outcome::Built(built),
            Err(error) => Outcome::Failed { message: error.to_string(), tail: error.tail() },
        };
        say::line(serde_json::to_string(&last).map_err(CliError::environment)?)?;
    }
    match result {
        Ok(built) if args.json => drop(built),
        Ok(built) => say::text(versions_text(style, &built))?,
        Err(ImageError::Cancelled) => {
            say::aside("cancelled; the image is as it was");
            return Ok(Exit::Cancelled);
        }
        Err(error) => {
            for line in error.tail() {
                say::aside(format_args!("  {}", style.dim(one_line(line, TAIL_CHARS))));
            }
            return Err(if error.is_usage() { CliError::usage(error) } else { CliError::environment(error) });
        }
    }
    Ok(Exit::Ok)
}

/// A token that the first Ctrl-C, SIGTERM or closed terminal cancels.
pub(super) fn cancel_on_signals() -> Result<CancellationToken, CliError> {
    let token = CancellationToken::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let mut stream = signal(kind).map_err(CliError::environment)?;
        let token = token.clone();
        // Ends with the token, which the command cancels when it is done.
        tokio::spawn(async move {
            tokio::select! {
                _ = stream.recv() => token.cancel(),
                () = token.cancelled() => {}
            }
        });
    }
    Ok(token)
}

/// Tells what is there.
pub async fn status(global: &Global, args: &ImageStatusArgs) -> Result<Exit, CliError> {
    crate::policy::image_name::check(&args.tag).map_err(CliError::usage)?;
    let context = Context::open(global)?;
    let (engine, _info) = context.engine().await?;
    let status = image::status(&*engine, &args.tag).await.map_err(CliError::environment)?;
    if args.json {
        say::line(serde_json::to_string_pretty(&status).map_err(CliError::environment)?)?;
    } else {
        say::text(status_text(Style::resolve(global.color), &status))?;
    }
    Ok(if status.present { Exit::Ok } else { Exit::Environment })
}
