//! `aigo service install`, `uninstall` and `status`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::args::Global;
use crate::cli::args::service::{ScopeArgs, ServiceArgs, ServiceInstallArgs, ServiceStatusArgs};
use crate::cli::exit::{CliError, Exit};
use crate::cli::say;
use crate::cli::show::style::Style;
use crate::config::{Config, Environment, Places, Scope};
use crate::service::status::{Status, ask};
use crate::service::step::{Outcome, Step};
use crate::service::{Home, Machine, Manager, Service, plan};

/// Where systemd-logind keeps who lives without a login (loginctl(1)).
const LINGER: &str = "/var/lib/systemd/linger";

/// Installs and starts it.
pub async fn install(global: &Global, args: &ServiceInstallArgs) -> Result<Exit, CliError> {
    let (service, machine) = service(global, args.common.scope, args.config.file.as_deref())?;
    // A service that would not start is not installed.
    if service.config.exists() {
        let places = Places::of(service.scope, &variable).map_err(CliError::environment)?;
        Config::load(&places, Some(&service.config), &Environment::empty(), &[]).map_err(CliError::usage)?;
    }
    let unit_now = std::fs::read_to_string(service.unit_path()).ok();
    let steps = plan::install(&service, unit_now.as_deref());
    carry_out(global, &service, machine, &args.common, &steps, hints(&service)).await
}

/// Stops it and takes it away.
pub async fn uninstall(global: &Global, args: &ServiceArgs) -> Result<Exit, CliError> {
    let (service, machine) = service(global, args.scope, None)?;
    let steps = plan::uninstall(&service, service.unit_path().exists());
    let stays = format!("sessions that run go on; data and {} stay", service.config.display());
    carry_out(global, &service, machine, args, &steps, vec![stays]).await
}

/// Says whether it is installed and runs.
pub async fn status(global: &Global, args: &ServiceStatusArgs) -> Result<Exit, CliError> {
    let (service, machine) = service(global, args.scope, args.config.file.as_deref())?;
    let manager_runs = match (service.manager, service.scope) {
        (Manager::Systemd, Scope::System) => machine.systemd,
        (Manager::Systemd, Scope::User) => machine.user_session,
        (Manager::Launchd, Scope::System | Scope::User) => true,
    };
    let status = ask(&service, manager_runs).await.map_err(CliError::environment)?;
    if args.json {
        say::line(serde_json::to_string_pretty(&status).map_err(CliError::environment)?)?;
    } else {
        say::text(lines(Style::resolve(global.color), &status))?;
    }
    Ok(if status.running { Exit::Ok } else { Exit::Failed })
}

fn service(global: &Global, scope: ScopeArgs, config: Option<&Path>) -> Result<(Service, Machine), CliError> {
    let manager = Manager::of_host();
    let scope = match (scope.system, scope.user, manager) {
        (true, _, _) => Scope::System,
        (false, true, _) | (false, false, Manager::Launchd) => Scope::User,
        (false, false, Manager::Systemd) => Scope::of_process(),
    };
    let places = Places::of(scope, &variable).map_err(CliError::environment)?;
    let absolute = |path: &Path| std::path::absolute(path).map_err(CliError::usage);
    let home = Home::of(&places, &variable);
    let machine = Machine::look(&home);
    let service = Service {
        manager,
        scope,
        program: program()?,
        config: config.map_or_else(|| Ok(places.config.clone()), absolute)?,
        data_dir: global.data_dir.as_deref().map(absolute).transpose()?,
        home,
    };
    Ok((service, machine))
}

/// This binary, without links: what an upgrade replaces is found again by the path it has now.
fn program() -> Result<PathBuf, CliError> {
    std::env::current_exe()
        .map_err(|error| CliError::environment(anyhow::anyhow!("aigo does not find itself: {error}")))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

async fn carry_out(
    global: &Global,
    service: &Service,
    machine: Machine,
    args: &ServiceArgs,
    steps: &[Step],
    notes: Vec<String>,
) -> Result<Exit, CliError> {
    let style = Style::resolve(global.color);
    let mut done: Vec<Value> = Vec::new();
    if !args.dry_run {
        service.judge(machine).map_err(CliError::environment)?;
    }
    for step in steps {
        let outcome = if args.dry_run { None } else { Some(step.perform().await.map_err(CliError::environment)?) };
        if args.json {
            let mut shown = serde_json::to_value(step).map_err(CliError::environment)?;
            shown["outcome"] = json!(outcome);
            done.push(shown);
        } else {
            show(style, step, outcome)?;
        }
    }
    if args.json {
        say::line(json!({"dryRun": args.dry_run, "steps": done, "notes": notes}))?;
    } else {
        for note in notes {
            say::line(style.dim(format!("  {note}")))?;
        }
    }
    Ok(Exit::Ok)
}

fn show(style: Style, step: &Step, outcome: Option<Outcome>) -> Result<(), CliError> {
    match outcome {
        Some(Outcome::Done) => say::line(format_args!("{} {step}", style.good("✓"))),
        Some(Outcome::Unchanged) => say::line(format_args!("{} {step}: nothing to do", style.dim("-"))),
        None => {
            say::line(format_args!("would {step}"))?;
            match step {
                Step::Write { content, .. } => say::line(style.dim(content)),
                Step::Folder { .. } | Step::WriteIfMissing { .. } | Step::Remove { .. } => Ok(()),
                Step::Run { .. } | Step::Try { .. } => Ok(()),
            }
        }
    }
}

fn hints(service: &Service) -> Vec<String> {
    let mut hints = vec![format!(
        "the model's credential goes into {} (ANTHROPIC_API_KEY=…, chmod 600), then restart the service",
        service.environment_file().display()
    )];
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.name);
    let lingers = user.is_some_and(|user| Path::new(LINGER).join(user).exists());
    if service.manager == Manager::Systemd && service.scope == Scope::User && !lingers {
        hints.push("it ends with your last login: `loginctl enable-linger` lets it live on".to_owned());
    }
    hints
}

fn lines(style: Style, status: &Status) -> String {
    let state = if status.running { style.good(&status.state) } else { style.warn(&status.state) };
    let mut text = format!("{state}  {}\n", status.unit.display());
    let mut add = |line: String| text.push_str(&format!("  {line}\n"));
    if let Some(said) = &status.text {
        add(crate::cli::show::sanitize::one_line(said, 200));
    }
    if let Some(pid) = status.pid {
        let restarts = status.restarts.map(|count| format!(", started anew {count} times")).unwrap_or_default();
        add(format!("process {pid}{restarts}"));
    }
    if status.installed && !status.enabled {
        add("it is not started by itself; `aigo service install` mends that".to_owned());
    }
    if status.installed && !status.current {
        add("the unit is of another aigo or has been edited; `aigo service install` writes it anew".to_owned());
    }
    text
}
