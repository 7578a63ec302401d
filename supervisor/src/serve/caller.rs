//! Who calls by TCP on this host, and whether that user may: the service's own user, root, and the group to which the unix
//! socket is open. Everybody else on a shared machine would otherwise have what the file permissions of the unix socket keep
//! from them.

use std::ffi::CString;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::{Gid, Group, Uid, User};
use tokio::sync::Semaphore;

use crate::tcp_owner::{Accepted, Owner};

/// How long the system's group database may take: it may ask a directory server.
const DATABASE: Duration = Duration::from_secs(5);
/// Users who are looked up in it at once.
static LOOKUPS: Semaphore = Semaphore::const_new(8);

/// The user behind a connection by TCP. The answer holds as long as the connection does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A user who may use the service without a token.
    Allowed(u32),
    /// A user who may not.
    Refused(u32, Arc<str>),
    /// The kernel does not tell who it is, for the reason that this text gives.
    Unknown(Arc<str>),
}

impl Caller {
    /// The user, if known.
    pub fn uid(&self) -> Option<u32> {
        match self {
            Self::Allowed(uid) | Self::Refused(uid, _) => Some(*uid),
            Self::Unknown(_) => None,
        }
    }
}

/// Which users of this host may use the service by TCP: this process's user, root, and the group that the unix socket lets in.
#[derive(Clone, Debug)]
pub struct AllowedUsers {
    service: Uid,
    group: Option<Gid>,
}

impl fmt::Display for AllowedUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Root's own service has one user fewer to name.
        let own = |and: &str| match self.service.is_root() {
            true => String::new(),
            false => format!("its own user (uid {}){and}", self.service),
        };
        match self.group {
            Some(gid) => {
                let name = Group::from_gid(gid).ok().flatten().map_or_else(|| gid.to_string(), |group| group.name);
                write!(
                    f,
                    "only {}root and members of the group `{name}` may; its operator can add users to that group, or",
                    own(", ")
                )
            }
            None => write!(
                f,
                "only {}root may; its operator can let in a group by `socket.group` and `socket.mode = \"0660\"`, or",
                own(" and ")
            ),
        }?;
        f.write_str(" set a token by `token-file`")
    }
}

impl AllowedUsers {
    /// Those whom the unix socket lets in, if it belongs to this group.
    pub fn of_socket(group: Option<Gid>) -> Self {
        Self { service: Uid::effective(), group }
    }

    /// Finds out who calls.
    pub async fn identify(&self, connection: Accepted) -> Caller {
        match connection.owner().await {
            Owner::User(uid) => self.judge(uid).await,
            Owner::Unknown(why) => {
                Caller::Unknown(format!("who calls from {} cannot be looked up: {why}", connection.peer).into())
            }
        }
    }

    async fn judge(&self, uid: u32) -> Caller {
        let user = Uid::from_raw(uid);
        if user == self.service || user.is_root() {
            return Caller::Allowed(uid);
        }
        let member = match self.group {
            Some(gid) => is_member(user, gid).await,
            None => Ok(false),
        };
        let why = match member {
            Ok(true) => return Caller::Allowed(uid),
            Ok(false) => format!("uid {uid} may not use this service by TCP: {self}"),
            Err(error) => format!(
                "uid {uid} may not use this service by TCP, since the groups of that user cannot be looked up ({error}): {self}"
            ),
        };
        Caller::Refused(uid, why.into())
    }
}

/// Whether the system's databases have the user in the group.
async fn is_member(user: Uid, gid: Gid) -> Result<bool, String> {
    let look = async {
        let turn = LOOKUPS.acquire().await;
        // The turn is held by the look-up, which goes on when nobody waits for it any more.
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            groups(user).map(|groups| groups.contains(&gid))
        })
        .await
    };
    match tokio::time::timeout(DATABASE, look).await {
        Ok(Ok(Ok(found))) => Ok(found),
        Ok(Ok(Err(error))) => Err(error.desc().to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {DATABASE:?}")),
    }
}

/// The user's groups. One without an entry in the user database has none.
#[cfg(target_os = "linux")]
fn groups(user: Uid) -> nix::Result<Vec<Gid>> {
    let Some(user) = User::from_uid(user)? else { return Ok(Vec::new()) };
    let name = CString::new(user.name).map_err(|_| nix::errno::Errno::EINVAL)?;
    nix::unistd::getgrouplist(&name, user.gid)
}

/// The user's groups: here only the first one. On systems without sock_diag nobody is known who could be looked up.
#[cfg(not(target_os = "linux"))]
fn groups(user: Uid) -> nix::Result<Vec<Gid>> {
    Ok(User::from_uid(user)?.map(|user| user.gid).into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_service_root_and_the_group_get_in() {
        let me = Uid::effective().as_raw();
        let stranger = if me == 4_000_000 { 4_000_001 } else { 4_000_000 };
        let alone = AllowedUsers::of_socket(None);
        assert_eq!(alone.judge(me).await, Caller::Allowed(me));
        assert_eq!(alone.judge(0).await, Caller::Allowed(0));
        let Caller::Refused(_, why) = alone.judge(stranger).await else { panic!("let in") };
        assert!(why.contains(&format!("uid {stranger} may not")) && why.contains("socket.group"), "{why}");
        let daemon = User::from_name("daemon").unwrap().unwrap();
        let open = AllowedUsers::of_socket(Some(daemon.gid));
        assert_eq!(open.judge(daemon.uid.as_raw()).await, Caller::Allowed(daemon.uid.as_raw()));
        let Caller::Refused(_, why) = open.judge(stranger).await else { panic!("let in") };
        assert!(why.contains("members of the group `daemon`"), "{why}");
    }
}
