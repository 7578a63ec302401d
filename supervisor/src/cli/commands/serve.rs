//! `aigo serve`.

use std::path::Path;
use std::sync::Arc;

use nix::unistd::Group;
use secrecy::SecretString;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::config::{Source, absolute};
use crate::cli::args::Global;
use crate::cli::args::serve::ServeArgs;
use crate::cli::context;
use crate::cli::exit::{CliError, Exit};
use crate::cli::log::ServiceLog;
use crate::cli::say;
use crate::config::{Config, Flag};
use crate::dirs::{DataDir, OTHERS};
use crate::engine::docker::HostEnv;
use crate::notify;
use crate::serve::descriptors;
use crate::serve::engine::EngineSlot;
use crate::serve::manager::Manager;
use crate::serve::{Daemon, Options};
use crate::store::{Decision, NewAudit};

/// Bytes of a token: shorter ones can be guessed.
const MIN_TOKEN: usize = 16;
/// Bytes of a token file that are read.
const MAX_TOKEN: u64 = 4096;

/// Serves until it is told to stop.
pub async fn run(global: &Global, args: &ServeArgs) -> Result<Exit, CliError> {
    let source = Source::new(global, args.config.file.as_deref())?.with(flags(args)?);
    let config = source.load().map_err(CliError::usage)?.config;
    let log = ServiceLog::start(&config.log).map_err(CliError::environment)?;
    if let Err(error) = descriptors::raise() {
        tracing::warn!("the limit on open files stays as it is ({error}): many sessions at once may need more");
    }
    let token = config.token_file.as_deref().map(read_token).transpose()?.map(Arc::new);
    let dirs = DataDir::open(Some(&config.data_dir), |_| None).map_err(CliError::environment)?;
    let (store, instance, claim) = context::open(&dirs)?;
    if let Some(claim) = claim {
        tracing::warn!("{}", claim.notice(dirs.root()));
    }
    let options = Options {
        listen: config.listen,
        token,
        socket: config.socket.path.clone(),
        socket_mode: config.socket.mode,
        socket_group: config.socket.group.as_deref().map(group).transpose()?,
    };
    let mut env = HostEnv::from_process();
    if let Some(endpoint) = &config.engine.host {
        // Whichever of the two the backend is looked for by.
        env.docker_host = Some(endpoint.to_string());
        env.container_host = Some(endpoint.to_string());
    }
    env.subnets = config.engine.subnets.as_ref().map(ToString::to_string);
    let engine = EngineSlot::new(config.engine.backend, env);
    // Before anything is promised: a signal that comes now is served in its turn, too.
    let mut term = signal(SignalKind::terminate()).map_err(CliError::environment)?;
    let mut int = signal(SignalKind::interrupt()).map_err(CliError::environment)?;
    let mut hup = signal(SignalKind::hangup()).map_err(CliError::environment)?;
    let manager = Manager::new(store, dirs, instance, engine, config);
    let daemon = Daemon::start(&options, manager).await.map_err(CliError::environment)?;
    let address = format!("http://{} and {}", daemon.address, options.socket.display());
    say::aside(format_args!("aigo serves {address}"));
    notify::ready(&format!("serving {address}"));
    let stop = CancellationToken::new();
    let manager = Arc::clone(&daemon.manager);
    // In this task: it may not outlive the daemon, and its probe borrows it.
    let watchdog = notify::watchdog(async || manager.is_well().await, stop.clone());
    tokio::pin!(watchdog);
    loop {
        tokio::select! {
            () = &mut watchdog => break,
            _ = term.recv() => break,
            _ = int.recv() => break,
            _ = hup.recv() => {
                notify::reloading();
                reload(&source, &daemon.manager, &log).await;
                notify::ready(&format!("serving {address}"));
            }
        }
    }
    notify::stopping("stopping; sessions run on");
    let left = daemon.stop().await;
    if left > 0 {
        say::aside(format_args!("{left} sessions run on; the next `aigo serve` finds them"));
    }
    Ok(Exit::Ok)
}

/// Takes the configuration anew, and writes it into the audit log: limits of agents and of the host may have changed.
async fn reload(source: &Source, manager: &Arc<Manager>, log: &ServiceLog) {
    let (decision, reasons) = match source.load() {
        Ok(loaded) => (Decision::Allowed, take(&loaded.config, manager, log)),
        Err(error) => {
            tracing::error!("the configuration stays as it was: {error}");
            (Decision::Denied, vec![error.to_string()])
        }
    };
    // Who sent it is known to the kernel only.
    let actor = "signal SIGHUP".to_owned();
    manager.audit(NewAudit { actor, action: "config.reload", session: None, decision, reasons }).await;
}

/// What has changed, in sentences.
fn take(new: &Config, manager: &Arc<Manager>, log: &ServiceLog) -> Vec<String> {
    let reload = manager.config().reload(new);
    let mut said = Vec::new();
    for change in &reload.live {
        tracing::info!("configuration: {change}");
        said.push(change.to_string());
    }
    for change in &reload.restart {
        tracing::warn!("configuration, only after a restart: {change}");
        said.push(format!("only after a restart: {change}"));
    }
    if let Err(error) = log.set_level(&reload.config.log.level) {
        tracing::error!("the log's level stays as it was: {error}");
        said.push(format!("the log's level stays as it was: {error}"));
    }
    manager.configure(reload.config);
    said
}

/// This command's own flags as values of the configuration.
fn flags(args: &ServeArgs) -> Result<Vec<Flag>, CliError> {
    let mut flags = Vec::new();
    if let Some(listen) = &args.listen {
        flags.push(Flag { key: "listen", flag: "--listen", value: listen.clone() });
    }
    if let Some(file) = &args.token_file {
        flags.push(Flag { key: "token-file", flag: "--token-file", value: absolute(file)? });
    }
    if let Some(socket) = &args.socket {
        flags.push(Flag { key: "socket.path", flag: "--socket", value: absolute(socket)? });
    }
    Ok(flags)
}

fn group(name: &str) -> Result<nix::unistd::Gid, CliError> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid),
        Ok(None) => Err(CliError::usage(anyhow::anyhow!("socket.group: there is no group `{name}`"))),
        Err(error) => Err(CliError::environment(error)),
    }
}

fn read_token(path: &Path) -> Result<SecretString, CliError> {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;
    let shown = path.display();
    let fail = |what: String| CliError::usage(anyhow::anyhow!("token-file {shown}: {what}"));
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| fail(error.to_string()))?;
    let mode = file.metadata().map_err(|error| fail(error.to_string()))?.permissions().mode();
    if mode & OTHERS != 0 {
        return Err(fail(format!("other users can use it (mode {:o}); `chmod 600 {shown}`", mode & 0o777)));
    }
    file.take(MAX_TOKEN).read_to_string(&mut text).map_err(|error| fail(error.to_string()))?;
    let token = text.trim();
    if token.len() < MIN_TOKEN || token.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(fail(format!(
            "it must hold one word of at least {MIN_TOKEN} characters, such as of `openssl rand -hex 32`"
        )));
    }
    Ok(SecretString::from(token))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_that_others_can_use_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "0123456789abcdef\n").unwrap();
        for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o660, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            match read_token(&path) {
                Ok(_) => assert!(good, "{mode:o}"),
                Err(error) => assert!(!good && error.to_string().contains("chmod 600"), "{mode:o}: {error}"),
            }
        }
    }
}
