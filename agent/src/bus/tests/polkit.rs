//! A polkit whose replies the test chooses.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Notify;
use zbus::interface;
use zbus::message::Header;

/// The behaviour of the test's polkit.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum PolkitAnswer {
    Allows,
    /// Allows plans, and denies all else.
    AllowsPlans,
    Denies,
    Challenges,
    Dismissed,
    Hangs,
    /// Asks a user, who does not answer.
    AsksUser,
    Vanishes,
}

/// A polkit that stores the actions of its checks.
pub(super) struct Polkit {
    pub(super) polkit_answer: PolkitAnswer,
    pub(super) asked: Arc<std::sync::Mutex<Vec<String>>>,
    /// The unique names that asked.
    pub(super) askers: Arc<std::sync::Mutex<Vec<String>>>,
    pub(super) cancelled: Arc<Notify>,
    pub(super) gone: Arc<Notify>,
}

type Details = HashMap<String, String>;

#[interface(name = "org.freedesktop.PolicyKit1.Authority")]
impl Polkit {
    async fn check_authorization(
        &self,
        #[zbus(header)] header: Header<'_>,
        subject: (String, HashMap<String, zbus::OwnedVariant>),
        action: String,
        details: Details,
        flags: u32,
        _cancellation_id: String,
    ) -> (bool, bool, Details) {
        assert_eq!(subject.0, "system-bus-name");
        let name = String::try_from(subject.1["name"].clone()).expect("name");
        assert!(name.starts_with(':'), "{name}");
        let about = ["device", "domain", "uuid"].map(|key| details.get(key));
        let about = about.into_iter().flatten().map(|word| format!(" {word}"));
        let about: String = about.collect();
        let words = format!("{action}{about} {flags}");
        self.asked.lock().expect("asked").push(words);
        let asker = header.sender().map(ToString::to_string);
        self.askers.lock().expect("askers").extend(asker);
        match self.polkit_answer {
            PolkitAnswer::Allows => (true, false, Details::new()),
            PolkitAnswer::AllowsPlans => (action == "org.variantd1.plan", false, Details::new()),
            PolkitAnswer::Denies => (false, false, Details::new()),
            // If interaction is allowed, a user is asked and knows the password.
            PolkitAnswer::Challenges => (flags == 1, flags == 0, Details::new()),
            PolkitAnswer::Dismissed => {
                let dismissed = ("polkit.dismissed".to_owned(), "true".to_owned());
                (false, false, Details::from([dismissed]))
            }
            PolkitAnswer::AsksUser if flags == 0 => (false, true, Details::new()),
            PolkitAnswer::Hangs | PolkitAnswer::AsksUser => std::future::pending().await,
            PolkitAnswer::Vanishes => {
                self.gone.notify_one();
                std::future::pending().await
            }
        }
    }

    fn cancel_check_authorization(&self, _cancellation_id: String) {
        self.cancelled.notify_one();
    }
}
