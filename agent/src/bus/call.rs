//! One call of a method of `Manager`, checked by the method's row: options first, then the caller, then the work in its
//! turn.

use std::collections::HashMap;
use std::future::Future;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::time::timeout;
use zbus::OwnedVariant;
use zbus::message::Header;

use super::about::{self, About};
use super::authority::Action;
use super::method::{Access, Kind, Method, REFUSAL};
use super::{BusError, Manager, caller};
use crate::libvirt::DomainRef;
use crate::metrics::{Source, Xml};
use crate::prepare;
use domain::NumaMode;
use planner::json;

/// Options of a call, by key.
pub(super) type Options = HashMap<String, OwnedVariant>;

/// A call whose options its method knows.
pub(super) struct Call<'a> {
    manager: &'a Manager,
    header: &'a Header<'a>,
    method: &'static Method,
    options: Options,
}

/// The time that a caller waits.
pub(super) struct Limit {
    left: Duration,
    /// The error when it is over.
    late: String,
}

impl Limit {
    /// Does the work, for as long as the caller waits.
    ///
    /// # Errors
    /// The time is over.
    pub(super) async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, BusError> {
        let done = timeout(self.left, work).await;
        done.map_err(|_| BusError::timed_out(self.late.clone()))
    }
}

impl<'a> Call<'a> {
    /// Checks the call of the method that the message names.
    ///
    /// # Errors
    /// An option is unknown or has another type.
    pub(super) fn new(
        manager: &'a Manager,
        header: &'a Header<'a>,
        options: Options,
    ) -> Result<Self, BusError> {
        let member = header.member().map_or("", |member| member.as_str());
        let method = Method::named(member).ok_or_else(|| {
            BusError::failed(format!(
                "internal error: '{member}' is not in the table of methods"
            ))
        })?;
        method.check(&options)?;
        Ok(Self {
            manager,
            header,
            method,
            options,
        })
    }

    /// A boolean option; false by default.
    pub(super) fn flag(&self, key: &str) -> bool {
        let value = self.options.get(key);
        value.and_then(|value| bool::try_from(value).ok()) == Some(true)
    }

    /// The options of a plan.
    ///
    /// # Errors
    /// `numa` has another value than `mirror` and `keep`.
    pub(super) fn plan_options(&self) -> Result<prepare::Options, BusError> {
        let numa = self.text("numa").map(|text| {
            let wrong = |why| BusError::failed(format!("option 'numa': {why}"));
            text.parse::<NumaMode>().map_err(wrong)
        });
        Ok(prepare::Options {
            replace: self.flag("replace"),
            egm: self.has("egm").then(|| self.flag("egm")),
            numa: numa.transpose()?,
            summary: self.flag("summary"),
        })
    }

    /// A text option.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        let value = self.options.get(key)?;
        <&str>::try_from(value).ok()
    }

    /// Takes a text option out of the call, so that a large text is freed when its work is done, not when the call is
    /// answered.
    pub(super) fn take_text(&mut self, key: &str) -> Option<String> {
        String::try_from(self.options.remove(key)?).ok()
    }

    /// Whether an option is present, with any value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.options.contains_key(key)
    }

    /// Checks that the caller is authorized; `about` has details for polkit's rules.
    ///
    /// # Errors
    /// [`BusError::not_authorized`], with polkit's action and how to get it.
    pub(super) async fn admit(&self, about: &About) -> Result<(), BusError> {
        let authority = &self.manager.authority;
        match (self.action(), self.method.access) {
            (Some(action), _) => {
                let admitted = authority.admit(self.header, action, about);
                admitted.await
            }
            (None, Access::Public) => Ok(()),
            (None, _) => caller::require_root(&authority.callers, self.header).await,
        }
    }

    fn action(&self) -> Option<Action> {
        self.method.action(|key| self.has(key))
    }

    /// The domain that the caller names. Only root does not wait for its turn, because any user may ask.
    pub(super) async fn domain(&self, text: String) -> Result<DomainRef, BusError> {
        self.manager.domain(self.header, text).await
    }

    /// Begins a wait for a domain: finds it within the caller's time, and checks that the caller is authorized. polkit's question
    /// takes nothing of the time that is left.
    ///
    /// # Errors
    /// As [`Self::domain`] and [`Self::admit`], and that the time is over.
    pub(super) async fn waiting(
        &self,
        text: String,
        timeout_ms: u32,
    ) -> Result<(DomainRef, Limit), BusError> {
        about::name(&text)?;
        let limit = Limit {
            left: Duration::from_millis(timeout_ms.into()),
            late: format!(
                "a change of domain '{text}' is still pending after {timeout_ms} ms; use a longer timeout"
            ),
        };
        let began = Instant::now();
        let domain = limit.within(self.domain(text)).await??;
        let left = limit.left.saturating_sub(began.elapsed());
        self.admit(&About::Domain(domain.clone())).await?;
        Ok((domain, Limit { left, ..limit }))
    }

    /// Replies with JSON.
    ///
    /// # Errors
    /// Those of the work; with option `refusal` an error that has fields is a reply.
    pub(super) async fn json<T: Serialize>(
        &self,
        work: impl Future<Output = Result<T, BusError>>,
    ) -> Result<String, BusError> {
        let text = async { Ok(json::text(&work.await?)) };
        self.answer(text, |refusal| refusal).await
    }

    /// The same for a reply of another type, which `refused` makes from the fields.
    ///
    /// # Errors
    /// As [`Self::json`].
    pub(super) async fn answer<T>(
        &self,
        work: impl Future<Output = Result<T, BusError>>,
        refused: impl FnOnce(String) -> T,
    ) -> Result<T, BusError> {
        let done = work.await;
        if let Err((Some(kind), Some(code))) = done.as_ref().map_err(|e| (e.kind(), e.code())) {
            let metrics = &self.manager.context.metrics;
            metrics.refused(Source::Bus, kind, code);
        }
        match done {
            Err(error) if self.flag(REFUSAL.key) => match error.fields() {
                Some(fields) => Ok(refused(fields)),
                None => Err(error),
            },
            done => done,
        }
    }

    /// Counts the answer about XML that libvirt does not have yet, by whether the work changes it.
    ///
    /// # Errors
    /// Those of the work.
    pub(super) async fn counted<T>(
        &self,
        subject: Xml,
        work: impl Future<Output = Result<(bool, T), BusError>>,
    ) -> Result<T, BusError> {
        let done = work.await;
        let changed = done.as_ref().map(|(changed, _)| *changed);
        let metrics = &self.manager.context.metrics;
        metrics.admission(subject, changed.map_err(BusError::kind));
        done.map(|(_, answer)| answer)
    }

    /// Does expensive work: in the caller's turn, if the method waits for it.
    pub(super) async fn costly<T, E>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, BusError>
    where
        BusError: From<E>,
    {
        if !self.method.in_turn {
            return Ok(work.await?);
        }
        let user = self.manager.authority.callers.user(self.header).await?;
        Ok(self.manager.lanes.within(user, work).await?)
    }
}

impl Method {
    /// Checks that all options are known and have their type: an unknown option could have any meaning.
    ///
    /// # Errors
    /// Names the option.
    pub(super) fn check(&self, options: &Options) -> Result<(), BusError> {
        let refusal = [REFUSAL].into_iter().filter(|_| self.answers_refusal());
        let known = || self.options.iter().copied().chain(refusal.clone());
        for (key, value) in options {
            let Some(choice) = known().find(|choice| choice.key == key) else {
                let key = about::shown(key);
                return Err(BusError::failed(format!("unknown option '{key}'")));
            };
            let fits = match choice.kind {
                Kind::Flag => bool::try_from(value).is_ok(),
                Kind::Text => <&str>::try_from(value).is_ok(),
            };
            if !fits {
                let (key, expected) = (choice.key, choice.kind.expected());
                return Err(BusError::failed(format!(
                    "option '{key}' is not {expected}"
                )));
            }
        }
        Ok(())
    }

    /// Checks options of a method as a job, whose error has a property of its own.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(super) fn check_in_job(&self, options: &Options) -> Result<(), BusError> {
        if options.contains_key(REFUSAL.key) {
            let key = REFUSAL.key;
            return Err(BusError::failed(format!(
                "option '{key}' is not valid for a job: read its 'ErrorName' and 'Result'"
            )));
        }
        self.check(options)
    }
}
