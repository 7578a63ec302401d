//! `aigo doctor`.

mod show;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::config::Source;
use super::image::cancel_on_signals;
use crate::cli::args::{DoctorArgs, Global};
use crate::cli::exit::{CliError, Exit};
use crate::cli::say;
use crate::cli::show::style::Style;
use crate::config::{CONFIG_VARIABLE, Config};
use crate::dirs::DataDir;
use crate::doctor::{self, Subject};
use crate::engine::detect::connect;
use crate::engine::docker::HostEnv;

/// Checks everything.
pub async fn run(global: &Global, args: &DoctorArgs) -> Result<Exit, CliError> {
    crate::policy::image_name::check(&args.image).map_err(CliError::usage)?;
    let cancel = cancel_on_signals()?;
    // Not the commands' common context: what it would fail on is what is examined here.
    let subject = Subject {
        engine: connect(global.engine, &HostEnv::from_process()).await,
        dirs: DataDir::open(global.data_dir.as_deref(), |name| std::env::var(name).ok()),
        image: &args.image,
        listen: listen(global),
        kernel_settings: Path::new("/proc/sys"),
    };
    let report = doctor::run(&subject, &|name| std::env::var_os(name), &cancel).await;
    let cancelled = cancel.is_cancelled();
    cancel.cancel();
    if args.json {
        say::line(serde_json::to_string_pretty(&report).map_err(CliError::environment)?)?;
    } else {
        say::text(show::report(Style::resolve(global.color), &report))?;
    }
    Ok(match (cancelled, report.is_good()) {
        (true, _) => Exit::Cancelled,
        (false, true) => Exit::Ok,
        (false, false) => Exit::Environment,
    })
}

/// Where a service of this user listens: by the configuration, or by default if that cannot be read (`aigo config check` says
/// why).
fn listen(global: &Global) -> SocketAddr {
    let file = std::env::var_os(CONFIG_VARIABLE).map(PathBuf::from);
    let loaded = Source::new(global, file.as_deref()).ok().and_then(|source| source.load().ok());
    loaded.map_or_else(|| Config::default().listen, |loaded| loaded.config.listen)
}
