//! An answer with its reason: yes, no, or unknown.

use kernel_glue::address::PciAddress;
use kernel_glue::atomics::{Width, Widths};

use domain::code::Code;

/// Whether something holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It does.
    Yes,
    /// It does not, by this rule.
    No(Finding),
    /// Unknown, for this reason.
    Open(Finding),
}

/// A failing rule, with the element and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The stable code.
    pub code: Code,
    /// The host's function at which it fails, if any.
    pub at: Option<PciAddress>,
    /// Why: lower case, no full stop.
    pub reason: String,
}

/// An answer, and every rule that fails or is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The answer: "no" takes precedence over unknown, and an earlier rule over a later one.
    pub answer: Answer,
    /// Each rule that fails or is unknown, in the order in which the user should check them: hardware first.
    pub failing: Vec<Answer>,
}

/// A judgement for each width.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerWidth([Judgement; 3]);

impl Finding {
    /// A finding at no function in particular.
    #[must_use]
    pub fn new(code: Code, reason: impl Into<String>) -> Self {
        Self {
            code,
            at: None,
            reason: reason.into(),
        }
    }

    /// The same, at a function of the host.
    #[must_use]
    pub fn at(mut self, address: PciAddress) -> Self {
        self.at = Some(address);
        self
    }
}

impl Answer {
    /// True or false; `None` if unknown.
    #[must_use]
    pub fn ok(&self) -> Option<bool> {
        match self {
            Self::Yes => Some(true),
            Self::No(_) => Some(false),
            Self::Open(_) => None,
        }
    }

    /// The rule and the reason, unless the answer is yes.
    #[must_use]
    pub fn finding(&self) -> Option<&Finding> {
        match self {
            Self::Yes => None,
            Self::No(finding) | Self::Open(finding) => Some(finding),
        }
    }

    /// Combines two answers: "no" takes precedence over unknown, and the reason of `self` over that of `other`.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::No(_), _) | (Self::Open(_), Self::Yes | Self::Open(_)) => self.clone(),
            _ => other.clone(),
        }
    }
}

impl Judgement {
    /// Of the answers that the rules give, in order.
    pub(super) fn of(answers: impl IntoIterator<Item = Answer>) -> Self {
        let is_failing = |answer: &Answer| *answer != Answer::Yes;
        let failing: Vec<Answer> = answers.into_iter().filter(is_failing).collect();
        let answer = failing.iter().fold(Answer::Yes, |sum, next| sum.and(next));
        Self { answer, failing }
    }

    /// Both, the rules of this one first.
    fn and(&self, other: &Self) -> Self {
        Self::of(self.failing.iter().chain(&other.failing).cloned())
    }

    /// Every rule that fails or is unknown.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.failing.iter().filter_map(Answer::finding)
    }
}

impl PerWidth {
    /// What the rules answer, per width.
    pub(super) fn each(mut answers: impl FnMut(Width) -> Vec<Answer>) -> Self {
        Self(Width::ALL.map(|width| Judgement::of(answers(width))))
    }

    /// The same, if this answer must hold for each width as well.
    pub(super) fn and(&self, other: &Judgement) -> Self {
        Self(self.0.each_ref().map(|own| own.and(other)))
    }

    /// The judgement of a width.
    #[must_use]
    pub fn judgement(&self, width: Width) -> &Judgement {
        match width {
            Width::Bits32 => &self.0[0],
            Width::Bits64 => &self.0[1],
            Width::Bits128 => &self.0[2],
        }
    }

    /// The answer for a width.
    #[must_use]
    pub fn of(&self, width: Width) -> &Answer {
        &self.judgement(width).answer
    }

    /// The answers by width, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (Width, &Answer)> {
        self.judgements().map(|(width, own)| (width, &own.answer))
    }

    /// The judgements by width, ascending.
    pub fn judgements(&self) -> impl Iterator<Item = (Width, &Judgement)> {
        Width::ALL.into_iter().zip(&self.0)
    }

    /// The widths of which the answer is yes.
    #[must_use]
    pub fn granted(&self) -> Widths {
        let yes = self.iter().filter(|(_, answer)| **answer == Answer::Yes);
        yes.map(|(width, _)| width).collect()
    }
}
