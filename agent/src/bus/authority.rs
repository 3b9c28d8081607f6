//! Authorization: polkit decides for all users except root (polkit(8), CheckAuthorization).
//!
//! Without polkit, planning is open and only root may change something. If polkit fails or does not answer, no user
//! except root is authorized: polkit may have a rule that denies it.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use tokio::time::timeout;
use tracing::warn;
use zbus::message::{Flags, Header, Message};
use zbus::{Connection, Variant, fdo};

use super::about::About;
use super::{BusError, Callers, caller};
use domain::code::Code;
use domain::refusal::Refusal;

const POLKIT: &str = "org.freedesktop.PolicyKit1";
const PATH: &str = "/org/freedesktop/PolicyKit1/Authority";
const INTERFACE: &str = "org.freedesktop.PolicyKit1.Authority";
/// POLKIT_CHECK_AUTHORIZATION_FLAGS_ALLOW_USER_INTERACTION.
const ALLOW_INTERACTION: u32 = 1;

/// The actions of `org.variantd1.policy`, which has the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Plan a definition.
    Plan,
    /// Change a definition.
    Prepare,
    /// Bind, release or reserve a device.
    Bind,
    /// Bind a device that is in use.
    BindInUse,
    /// Release devices whose change was interrupted.
    Recover,
}

/// Asks polkit.
#[derive(Clone, Debug)]
pub struct Authority {
    /// Root is authorized without a question; false in tests, which may run as root.
    pub root_passes: bool,
    /// Timeout of a reply without user interaction.
    pub deadline: Duration,
    /// Timeout of a reply while a user types a password.
    pub dialog_deadline: Duration,
    /// The callers.
    pub callers: Callers,
    /// The authorization that the caller of a job had when it started the job; the caller may have disconnected since.
    pub(super) granted: Option<Action>,
}

impl Default for Authority {
    fn default() -> Self {
        Self {
            root_passes: true,
            deadline: Duration::from_secs(10),
            dialog_deadline: Duration::from_secs(300),
            callers: Callers::default(),
            granted: None,
        }
    }
}

/// The reply of polkit.
enum Verdict {
    Yes,
    No,
    /// polkit would ask for a password, and interaction is not allowed.
    Challenge,
    /// The user closed the dialog.
    Dismissed,
    /// polkit is not installed.
    Absent,
    Silent(String),
}

impl Authority {
    /// The defaults, for these callers.
    #[must_use]
    pub fn of(callers: Callers) -> Self {
        Self {
            callers,
            ..Self::default()
        }
    }
}

impl Action {
    /// All actions, in the order of the shipped policy.
    #[cfg(test)]
    pub(super) const ALL: [Self; 5] = [
        Self::Plan,
        Self::Prepare,
        Self::Bind,
        Self::BindInUse,
        Self::Recover,
    ];

    /// All users may do it without polkit.
    pub(super) fn is_open(self) -> bool {
        matches!(self, Self::Plan)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plan => "org.variantd1.plan",
            Self::Prepare => "org.variantd1.prepare",
            Self::Bind => "org.variantd1.bind",
            Self::BindInUse => "org.variantd1.bind-in-use",
            Self::Recover => "org.variantd1.recover",
        })
    }
}

impl Authority {
    /// Checks that the sender of a call is authorized for `action`; `about` has details for polkit's rules.
    ///
    /// # Errors
    /// [`BusError::not_authorized`], with the action and how to get it.
    pub(super) async fn admit(
        &self,
        header: &Header<'_>,
        action: Action,
        about: &About,
    ) -> Result<(), BusError> {
        if self.granted == Some(action) {
            return Ok(());
        }
        match self.callers.user(header).await? {
            None => Ok(()),
            Some(user) if self.root_passes && caller::is_root(user) => Ok(()),
            Some(user) => {
                // First without interaction, with a short timeout: a hanging polkit must not get the timeout of a
                // dialog.
                let mut verdict = self.ask(header, action, about, false).await;
                if matches!(verdict, Verdict::Challenge) && is_interactive(header) {
                    verdict = self.ask(header, action, about, true).await;
                }
                decide(verdict, action, user)
            }
        }
    }

    /// The authority of a job: the check without interaction is done now, while the caller is connected. If a user must
    /// be asked, the job asks, and the caller must stay connected until then.
    ///
    /// # Errors
    /// As [`Self::admit`].
    pub(super) async fn foresee(
        &self,
        header: &Header<'_>,
        action: Action,
        about: &About,
    ) -> Result<Self, BusError> {
        let granted = Self {
            granted: Some(action),
            ..self.clone()
        };
        let user = match self.callers.user(header).await? {
            None => return Ok(granted),
            Some(user) if self.root_passes && caller::is_root(user) => return Ok(granted),
            Some(user) => user,
        };
        // polkit identifies the caller by its bus name, which is gone when a job begins after its caller has left.
        let question = self.ask(header, action, about, false);
        match question.await {
            // Without `granted`: the job asks again, with the dialog, at its turn.
            Verdict::Challenge if is_interactive(header) => Ok(self.clone()),
            verdict => decide(verdict, action, user).map(|()| granted),
        }
    }

    async fn ask(
        &self,
        header: &Header<'_>,
        action: Action,
        about: &About,
        interactive: bool,
    ) -> Verdict {
        // A peer without a bus is never asked about. The agent serves calls on another connection: while one user's calls fill
        // the queue of that one, dbus-daemon discards replies to it, too.
        let Some(bus) = self.callers.bus() else {
            return Verdict::Absent;
        };
        let sender = header.sender().map(ToString::to_string).unwrap_or_default();
        // Unique for this call: the sender chooses its own serial numbers.
        let id = format!("{sender}/{}", header.primary().serial_num());
        let subject = (
            "system-bus-name",
            HashMap::from([("name", Variant::from(sender))]),
        );
        let details: HashMap<&str, String> = about.details().into_iter().collect();
        let interaction = if interactive { ALLOW_INTERACTION } else { 0 };
        let body = (subject, action.to_string(), details, interaction, &*id);
        let check = call(bus, "CheckAuthorization", &body);
        let limit = if interactive {
            self.dialog_deadline
        } else {
            self.deadline
        };
        match timeout(limit, check).await {
            Ok(reply) => verdict(reply),
            Err(_) => {
                let (bus, deadline) = (bus.clone(), self.deadline);
                // No process waits for the reply any more: cancel the question.
                tokio::spawn(async move {
                    let body = (id,);
                    let cancel = call(&bus, "CancelCheckAuthorization", &body);
                    let _ = timeout(deadline, cancel).await;
                });
                Verdict::Silent(format!("no answer within {} s", limit.as_secs()))
            }
        }
    }
}

/// The caller allows interactive authorization.
fn is_interactive(header: &Header<'_>) -> bool {
    let flags = header.primary().flags();
    flags.contains(Flags::ALLOW_INTERACTIVE_AUTH)
}

async fn call<B>(bus: &Connection, method: &str, body: &B) -> zbus::Result<Message>
where
    B: serde::Serialize + zbus::Type,
{
    bus.call_method(Some(POLKIT), PATH, Some(INTERFACE), method, body)
        .await
}

fn verdict(reply: zbus::Result<Message>) -> Verdict {
    let message = match reply {
        Ok(message) => message,
        // The name has no owner, and no service file can start one.
        Err(zbus::Error::FDO(error)) if matches!(*error, fdo::Error::ServiceUnknown(_)) => {
            return Verdict::Absent;
        }
        Err(error) => return Verdict::Silent(error.to_string()),
    };
    let answer = message.body();
    let answer: zbus::Result<(bool, bool, HashMap<String, String>)> = answer.deserialize();
    match answer {
        Ok((true, ..)) => Verdict::Yes,
        Ok((_, true, _)) => Verdict::Challenge,
        // Reported as "not authorized" with this detail (polkit, PolkitAuthorizationResult).
        Ok((_, _, details)) if details.contains_key("polkit.dismissed") => Verdict::Dismissed,
        Ok(_) => Verdict::No,
        Err(error) => Verdict::Silent(error.to_string()),
    }
}

fn decide(verdict: Verdict, action: Action, user: u32) -> Result<(), BusError> {
    let refused = |code: Code, reason: &str, hint: &str| {
        let reason = format!("user {user} is not authorized: {reason}");
        Err(BusError::not_authorized(Refusal::new(code, reason, hint)))
    };
    let rule = format!("use sudo, or grant '{action}' by a rule below /etc/polkit-1/rules.d");
    match verdict {
        Verdict::Yes => Ok(()),
        // Without polkit, as in a minimal installation: the policy's own default for this action is "yes".
        Verdict::Absent if action.is_open() => Ok(()),
        Verdict::Absent => Err(caller::root_only(user)),
        Verdict::No => refused(
            Code::NotAuthorized,
            &format!("polkit denies '{action}'"),
            &rule,
        ),
        Verdict::Dismissed => {
            let reason = format!("the authentication dialog for '{action}' was closed");
            refused(Code::NotAuthorized, &reason, "authenticate, or use sudo")
        }
        Verdict::Challenge => {
            let reason = format!(
                "polkit requires a password for '{action}', and the caller does not allow \
                    interaction"
            );
            refused(Code::NotAuthorized, &reason, &rule)
        }
        Verdict::Silent(why) => {
            warn!("cannot ask polkit about '{action}' of user {user}: {why}");
            let reason = format!("polkit did not answer about '{action}': {why}");
            let hint = "see 'systemctl status polkit', or use sudo";
            refused(Code::AuthoritySilent, &reason, hint)
        }
    }
}
