//! What the command says of itself, and what can be said of virtual machines in general.

use std::path::PathBuf;

use super::cli::Cli;
use super::{AppleEngine, OLDEST, OLDEST_TEXT};
use crate::engine::{
    Backend, CgroupDriver, CgroupVersion, EngineError, EngineInfo, LimitSupport, Networking, Quirks, deadline,
};

/// Where it keeps images and containers, below the home of its user, unless it was started with another root.
const ROOT: &str = "Library/Application Support/com.apple.container";

/// `container CLI version 0.4.1 (build: release, commit: 4ac18b5)`
pub(super) async fn version(cli: &Cli) -> Result<String, EngineError> {
    let what = "tell its version";
    let answer = cli.ask(what, deadline::DETECT, &["--version"]).await?;
    let text = String::from_utf8_lossy(&answer.stdout);
    let Some((version, numbers)) = text.split_whitespace().find_map(|word| Some((word, numbers(word)?))) else {
        let message = format!("no version in {:?}; is this Apple's container command?", text.trim());
        return Err(EngineError::Malformed { what, message });
    };
    if numbers < OLDEST {
        return Err(EngineError::TooOld { backend: "Apple Container", found: version.to_owned(), needed: OLDEST_TEXT });
    }
    Ok(version.to_owned())
}

fn numbers(word: &str) -> Option<(u32, u32)> {
    let mut parts = word.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Fails unless the service behind the command runs. Returns what it prints.
pub(super) async fn is_running(cli: &Cli) -> Result<String, EngineError> {
    let answer = cli.ask("tell its state", deadline::DETECT, &["system", "status"]).await?;
    Ok(String::from_utf8_lossy(&answer.stdout).into_owned())
}

/// The folder in the lines of `system status`: `app-root  /…` in a table, `application data root: /…` before that.
fn root(status: &str) -> Option<PathBuf> {
    status.lines().find_map(|line| {
        let line = line.trim();
        let rest = line.strip_prefix("app-root").or_else(|| line.strip_prefix("application data root:"))?;
        Some(PathBuf::from(rest.trim())).filter(|path| path.is_absolute())
    })
}

pub(super) async fn detect(engine: &AppleEngine) -> Result<EngineInfo, EngineError> {
    let AppleEngine { cli, offers, lives: _ } = engine;
    // It may have been replaced meanwhile.
    let version = version(cli).await?;
    let status = is_running(cli).await?;
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/".into())).join(ROOT);
    let mut warnings = Vec::new();
    if let Err(error) = super::network::check(offers) {
        warnings.push(error.to_string());
    }
    if !offers.create("--cap-drop") {
        warnings
            .push("this version cannot drop capabilities: root in a container has all of its virtual machine".into());
    }
    let cpus = std::thread::available_parallelism().map_or(0, |count| u32::try_from(count.get()).unwrap_or(u32::MAX));
    Ok(EngineInfo {
        backend: Backend::AppleContainer,
        id: String::new(),
        api_version: version.clone(),
        endpoint: cli.program().display().to_string(),
        cgroup_version: CgroupVersion::Unknown,
        cgroup_driver: CgroupDriver::Machine,
        // Memory is all that the machine has; its root may still make swap of its disk.
        limits: LimitSupport { memory: true, swap: false, cpu: true, pids: false },
        quirks: Quirks { oom_untold: true, updates_unrecorded: false, unnamed: true, streams_joined: true },
        os: "macOS".to_owned(),
        architecture: std::env::consts::ARCH.to_owned(),
        kernel: String::new(),
        cpus,
        memory: memory().await,
        // It runs as a person: what its containers' root makes in a mounted folder is that person's.
        rootless: true,
        security_options: vec!["a virtual machine for each container".to_owned()],
        storage_driver: "virtual disks".to_owned(),
        root_dir: root(&status).unwrap_or_else(home),
        networking: Networking { host_gateway: None, extra_run_args: vec![] },
        message: format!("Apple Container {version} answers at {} (virtual machines)", cli.program().display()),
        version,
        warnings,
    })
}

/// Bytes of this machine, of which virtual machines are given theirs; 0 if it does not tell.
#[cfg(target_os = "macos")]
async fn memory() -> u64 {
    let run = tokio::process::Command::new("/usr/sbin/sysctl").args(["-n", "hw.memsize"]).kill_on_drop(true).output();
    match tokio::time::timeout(deadline::DETECT, run).await {
        Ok(Ok(output)) => String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or(0),
        Ok(Err(_)) | Err(_) => 0,
    }
}

#[cfg(not(target_os = "macos"))]
#[expect(clippy::unused_async, reason = "as on macOS")]
async fn memory() -> u64 {
    use nix::unistd::{SysconfVar, sysconf};
    let ask = |variable| sysconf(variable).ok().flatten().and_then(|value| u64::try_from(value).ok());
    ask(SysconfVar::_PHYS_PAGES).zip(ask(SysconfVar::PAGE_SIZE)).map_or(0, |(pages, size)| pages.saturating_mul(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_found_in_both_forms() {
        let table = "FIELD     VALUE\nstatus    running\napp-root  /Users/a b/Library/Application Support/com.apple.container/\n";
        let expected = Some(PathBuf::from("/Users/a b/Library/Application Support/com.apple.container/"));
        assert_eq!(root(table), expected);
        assert_eq!(root("apiserver is running\napplication data root: /data/\n"), Some("/data/".into()));
        assert_eq!(root("apiserver is running\n"), None);
    }

    #[test]
    fn versions_are_numbers() {
        assert_eq!(numbers("0.4.1"), Some((0, 4)));
        assert_eq!(numbers("1.1.0-rc"), Some((1, 1)));
        assert_eq!(numbers("version"), None);
    }
}
