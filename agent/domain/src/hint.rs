//! The fix for a refusal or a failed check: a sentence, and its command if running that command is enough.

use std::borrow::Cow;
use std::fmt;

/// Start and end of a command in its sentence, in bytes.
type Span = (usize, usize);

/// Lower case, no full stop. The caller marks the commands; they are never searched for in the sentence.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hint {
    text: Box<str>,
    /// The commands in the text.
    commands: Box<[Span]>,
    command: Option<Box<str>>,
}

impl Hint {
    /// `run 'COMMAND'`.
    #[must_use]
    pub fn run(command: impl Into<String>) -> Self {
        Self::with("run {}", command)
    }

    /// Replaces `{}` in a sentence by the command, in quotes. Put text from outside into the command or into
    /// [`Self::then`], which does not search for `{}`.
    #[must_use]
    pub fn with(sentence: &str, command: impl Into<String>) -> Self {
        let command = command.into();
        Self {
            command: Some(command.as_str().into()),
            ..Self::naming(sentence, &command)
        }
    }

    /// Like [`Self::with`], for a command that helps but is not enough.
    #[must_use]
    pub fn naming(sentence: &str, command: &str) -> Self {
        let (before, after) = sentence.split_once("{}").unwrap_or((sentence, ""));
        let begin = before.len() + 1;
        Self {
            text: format!("{before}'{command}'{after}").into(),
            commands: Box::new([(begin, begin + command.len())]),
            command: None,
        }
    }

    /// Adds text before the hint.
    #[must_use]
    pub fn after(mut self, words: &str) -> Self {
        self.text = format!("{words}{}", self.text).into();
        self.commands = moved(&self.commands, words.len());
        self
    }

    /// Adds text after the hint.
    #[must_use]
    pub fn then(mut self, words: &str) -> Self {
        self.text = format!("{}{words}", self.text).into();
        self
    }

    /// A sentence and its command, unchanged, as another program sent them.
    #[must_use]
    pub fn known(text: String, command: Option<String>) -> Self {
        Self {
            text: text.into(),
            commands: Box::default(),
            command: command.map(Into::into),
        }
    }

    /// Sets the command that is enough by itself.
    #[must_use]
    pub fn by<'a>(mut self, words: impl IntoIterator<Item = &'a str>) -> Self {
        self.command = Some(line(words).into());
        self
    }

    /// Joins two hints; the command is that of the first.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        const AND: &str = " and ";
        let behind = moved(&other.commands, self.text.len() + AND.len());
        Self {
            text: format!("{self}{AND}{other}").into(),
            commands: [self.commands, behind].concat().into(),
            command: self.command.or(other.command),
        }
    }

    /// The whole sentence.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The command that is enough by itself; `None` if a person must check, choose or do something first.
    #[must_use]
    pub fn command(&self) -> Option<&str> {
        self.command.as_deref()
    }

    /// Replaces each command by the result of `change`.
    #[must_use]
    pub fn map_commands(self, change: impl Fn(&str) -> String) -> Self {
        let mut text = String::new();
        let mut commands = Vec::new();
        let mut done = 0;
        for (begin, end) in self.commands {
            text.push_str(&self.text[done..begin]);
            let start = text.len();
            text.push_str(&change(&self.text[begin..end]));
            commands.push((start, text.len()));
            done = end;
        }
        text.push_str(&self.text[done..]);
        Self {
            text: text.into(),
            commands: commands.into(),
            command: self.command.map(|command| change(&command).into()),
        }
    }
}

fn moved(commands: &[Span], by: usize) -> Box<[Span]> {
    let spans = commands.iter();
    spans.map(|(begin, end)| (begin + by, end + by)).collect()
}

/// The arguments of a command as a line for a shell.
#[must_use]
pub fn line<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// Quotes an argument for a shell: names of domains may have spaces and quotes.
fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=@%+,".contains(letter);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', r"'\''")).into(),
    }
}

/// A sentence without a sufficient command.
impl From<String> for Hint {
    fn from(text: String) -> Self {
        Self::known(text, None)
    }
}

/// A sentence without a sufficient command.
impl From<&str> for Hint {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hint_quotes_a_command_in_its_sentence() {
        let hint = Hint::with("set it with {}, or remove it", "virsh edit g");
        assert_eq!(hint.as_str(), "set it with 'virsh edit g', or remove it");
        assert_eq!(hint.command(), Some("virsh edit g"));
        assert_eq!(Hint::run("depmod -a").as_str(), "run 'depmod -a'");
    }

    #[test]
    fn sentence_with_quotes_has_no_command() {
        let hint = Hint::from("see 'virsh list'");
        assert_eq!((hint.as_str(), hint.command()), ("see 'virsh list'", None));
    }

    #[test]
    fn placeholder_in_a_command_is_not_replaced() {
        let hint = Hint::with("run {} now", "virsh edit '{}'").then(" {}");
        assert_eq!(hint.as_str(), "run 'virsh edit '{}'' now {}");
    }

    #[test]
    fn map_commands_changes_only_the_commands() {
        let first = Hint::run("variantctl list").after("first ");
        let hint = first
            .and(Hint::naming("see {} for more", "variantctl show X"))
            .then(", as variantctl says");
        let changed = hint.map_commands(|line| line.replace("variantctl", "variantctl -h"));
        assert_eq!(
            changed.as_str(),
            "first run 'variantctl -h list' and see 'variantctl -h show X' for more, as variantctl says"
        );
        assert_eq!(changed.command(), Some("variantctl -h list"));
        let same = changed.map_commands(|line| line.replace("variantctl -h", "variantctl"));
        assert_eq!(
            same.as_str(),
            "first run 'variantctl list' and see 'variantctl show X' for more, as variantctl says"
        );
    }

    #[test]
    fn command_quotes_domain_names_for_a_shell() {
        for (name, wanted) in [
            ("red-hat.1", "variantctl prepare red-hat.1"),
            ("my guest", "variantctl prepare 'my guest'"),
            ("a'; reboot #", r"variantctl prepare 'a'\''; reboot #'"),
            ("$(reboot)", "variantctl prepare '$(reboot)'"),
            ("", "variantctl prepare ''"),
        ] {
            let hint = Hint::from("prepare it").by(["variantctl", "prepare", name]);
            assert_eq!(hint.command(), Some(wanted));
        }
    }
}
