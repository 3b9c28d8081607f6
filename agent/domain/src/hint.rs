//! The way out of a refusal or of a failed check: a sentence, and the command in it where running that command is enough.

use std::borrow::Cow;
use std::fmt;

/// Begin and end of a command in its sentence, in bytes.
type Span = (usize, usize);

/// Lower case, no full stop. A command is known as such from where it is written, never found in the sentence.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hint {
    text: Box<str>,
    /// Where in the text commands are.
    commands: Box<[Span]>,
    command: Option<Box<str>>,
}

impl Hint {
    /// `run 'COMMAND'`.
    #[must_use]
    pub fn run(command: impl Into<String>) -> Self {
        Self::with("run {}", command)
    }

    /// A sentence in which `{}` stands for the command, which is printed between ticks. Text from outside belongs
    /// into the command or behind [`Self::then`], where no `{}` is looked for.
    #[must_use]
    pub fn with(sentence: &str, command: impl Into<String>) -> Self {
        let command = command.into();
        Self {
            command: Some(command.as_str().into()),
            ..Self::naming(sentence, &command)
        }
    }

    /// As [`Self::with`], with a command that helps and is not enough.
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

    /// The same with words before it.
    #[must_use]
    pub fn after(mut self, words: &str) -> Self {
        self.text = format!("{words}{}", self.text).into();
        self.commands = moved(&self.commands, words.len());
        self
    }

    /// The same with words behind it.
    #[must_use]
    pub fn then(mut self, words: &str) -> Self {
        self.text = format!("{}{words}", self.text).into();
        self
    }

    /// A sentence and its command as another program has them: nothing is added.
    #[must_use]
    pub fn known(text: String, command: Option<String>) -> Self {
        Self {
            text: text.into(),
            commands: Box::default(),
            command: command.map(Into::into),
        }
    }

    /// The same, where these words of a command are enough.
    #[must_use]
    pub fn by<'a>(mut self, words: impl IntoIterator<Item = &'a str>) -> Self {
        self.command = Some(line(words).into());
        self
    }

    /// Both, one after the other; the command is that to begin with.
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

    /// The command that is enough by itself; `None` where a person has to look, choose or do something first.
    #[must_use]
    pub fn command(&self) -> Option<&str> {
        self.command.as_deref()
    }

    /// The same with each of its commands as `change` returns it.
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

/// The words of a command as a line for a shell.
#[must_use]
pub fn line<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// A word as a shell reads it: names of domains may have spaces and quotes.
fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=@%+,".contains(letter);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', r"'\''")).into(),
    }
}

/// A sentence without a command that is enough.
impl From<String> for Hint {
    fn from(text: String) -> Self {
        Self::known(text, None)
    }
}

/// A sentence without a command that is enough.
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
    fn a_command_stands_between_ticks_in_its_sentence() {
        let hint = Hint::with("set it with {}, or remove it", "virsh edit g");
        assert_eq!(hint.as_str(), "set it with 'virsh edit g', or remove it");
        assert_eq!(hint.command(), Some("virsh edit g"));
        assert_eq!(Hint::run("depmod -a").as_str(), "run 'depmod -a'");
    }

    #[test]
    fn a_sentence_alone_has_no_command_whatever_it_quotes() {
        let hint = Hint::from("see 'virsh list'");
        assert_eq!((hint.as_str(), hint.command()), ("see 'virsh list'", None));
    }

    #[test]
    fn a_command_from_outside_is_no_place_for_another() {
        let hint = Hint::with("run {} now", "virsh edit '{}'").then(" {}");
        assert_eq!(hint.as_str(), "run 'virsh edit '{}'' now {}");
    }

    #[test]
    fn commands_are_changed_and_the_words_around_them_are_not() {
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
    fn a_command_is_a_line_for_a_shell_whatever_a_domain_is_named() {
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
