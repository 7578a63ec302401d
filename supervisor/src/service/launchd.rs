//! The launchd agent: launchd.plist(5). Written by hand, so that it reads as people write it; a test reads it back with a
//! parser of property lists. It has not been run on macOS.

use super::{Service, systemd};

/// The agent's name.
pub const LABEL: &str = "aigo.serve";

/// File mode bits that new files do not get: launchd takes the number in decimal.
const UMASK: u32 = 0o077;
/// Seconds between two starts.
const THROTTLE: u32 = 10;
/// Where the engines' own tools are, which launchd's bare environment does not name.
const PATH: &str = "/usr/local/bin:/opt/homebrew/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/// What systemd's `EnvironmentFile=-` does, and launchd has nothing for: the file's settings, if it can be read, for the
/// program and its arguments.
const WITH_ENVIRONMENT: &str = r#"set -a; if [ -r "$0" ]; then . "$0"; fi; exec "$@""#;

/// The command that launchd starts.
pub(super) fn command(service: &Service) -> Vec<String> {
    let environment = service.environment_file().to_string_lossy().into_owned();
    let shell = ["/bin/sh", "-c", WITH_ENVIRONMENT].map(str::to_owned);
    shell.into_iter().chain([environment]).chain(service.arguments()).collect()
}

/// The property list. Pure.
pub fn plist(service: &Service) -> String {
    let arguments: String =
        command(service).iter().map(|argument| format!("\n        <string>{}</string>", escape(argument))).collect();
    let log = escape(&service.home.home.join("Library/Logs/aigo.log").to_string_lossy());
    let stop_limit = systemd::STOP_LIMIT.as_secs();
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<!-- Written by `aigo service install`, and again by the next one. -->
<plist version="1.0">
<dict>
    <key>Label</key>
    <string>{LABEL}</string>
    <key>ProgramArguments</key>
    <array>{arguments}
    </array>
    <key>EnvironmentVariables</key>
    <dict>
        <key>PATH</key>
        <string>{PATH}</string>
    </dict>
    <key>RunAtLoad</key>
    <true/>
    <key>KeepAlive</key>
    <dict>
        <key>SuccessfulExit</key>
        <false/>
    </dict>
    <key>ThrottleInterval</key>
    <integer>{THROTTLE}</integer>
    <key>ExitTimeOut</key>
    <integer>{stop_limit}</integer>
    <key>AbandonProcessGroup</key>
    <true/>
    <key>ProcessType</key>
    <string>Standard</string>
    <key>Umask</key>
    <integer>{UMASK}</integer>
    <key>StandardErrorPath</key>
    <string>{log}</string>
</dict>
</plist>
"#
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
