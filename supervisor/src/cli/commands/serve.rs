//! `aigo serve`.

use std::path::Path;
use std::sync::Arc;

use secrecy::SecretString;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::args::{Global, ServeArgs};
use crate::cli::context::Context;
use crate::cli::exit::{CliError, Exit};
use crate::door::Door;
use crate::engine::detect::{Choice, ENGINE_VARIABLE};
use crate::engine::docker::HostEnv;
use crate::serve::engine::EngineSlot;
use crate::serve::manager::Manager;
use crate::serve::{Daemon, Options};

/// Bytes of a token: shorter ones can be guessed.
const MIN_TOKEN: usize = 16;
/// Bytes of a token file that are read.
const MAX_TOKEN: u64 = 4096;

/// Serves until it is told to stop.
pub async fn run(global: &Global, args: &ServeArgs) -> Result<Exit, CliError> {
    let token = args.token_file.as_deref().map(read_token).transpose()?.map(Arc::new);
    let context = Context::open(global)?;
    let choice = match std::env::var(ENGINE_VARIABLE) {
        Ok(name) => name.parse().map_err(CliError::usage)?,
        Err(_) => Choice::Auto,
    };
    let socket = match &args.socket {
        Some(path) => std::path::absolute(path).map_err(CliError::usage)?,
        None => context.dirs.socket(),
    };
    let options = Options { listen: args.listen, token, socket, socket_mode: 0o600 };
    let door = Door { own_folders: vec![context.dirs.root().to_owned()], allow_plain_http: args.allow_plain_http };
    let engine = EngineSlot::new(choice, HostEnv::from_process());
    let manager = Manager::new(context.store.clone(), context.dirs.clone(), context.instance.clone(), engine, door);
    // Before anything is promised: a signal that comes now ends in order, too.
    let mut term = signal(SignalKind::terminate()).map_err(CliError::environment)?;
    let mut int = signal(SignalKind::interrupt()).map_err(CliError::environment)?;
    let daemon = Daemon::start(&options, manager).await.map_err(CliError::environment)?;
    eprintln!("aigo serves http://{} and {}", daemon.address, options.socket.display());
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    let left = daemon.stop().await;
    if left > 0 {
        eprintln!("{left} sessions run on; the next `aigo serve` finds them");
    }
    Ok(Exit::Ok)
}

fn read_token(path: &Path) -> Result<SecretString, CliError> {
    use std::io::Read;
    let shown = path.display();
    let fail = |what: String| CliError::usage(anyhow::anyhow!("--token-file {shown}: {what}"));
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| fail(error.to_string()))?;
    file.take(MAX_TOKEN).read_to_string(&mut text).map_err(|error| fail(error.to_string()))?;
    let token = text.trim();
    if token.len() < MIN_TOKEN || token.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(fail(format!(
            "it must hold one word of at least {MIN_TOKEN} characters, such as of `openssl rand -hex 32`"
        )));
    }
    Ok(SecretString::from(token))
}
