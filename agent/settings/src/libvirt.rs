//! The syntax of libvirt's configuration files: `libvirt.conf` of its clients, `libvirtd.conf` and others of its daemons.
//!
//! ```text
//! statement = NAME "=" value, then a comment, a line end or ";"
//! value     = number | "text" | 'text' | """text of several lines""" | "[" value "," ... "]"
//! ```
//!
//! Follows libvirt's src/util/virconf.c: of two statements with one name the first counts.

use std::fmt;

/// Lists in lists; libvirt's settings have none.
const MAX_DEPTH: usize = 8;

/// The value of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Its digits and sign.
    Number(String),
    /// Without its quotes; libvirt knows no escapes.
    Text(String),
    /// The items in their order.
    List(Vec<Value>),
}

/// A statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// The line where it begins, from 1.
    pub line: usize,
    /// Its value.
    pub value: Value,
}

/// libvirt does not read the file, and its programs fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The line, from 1.
    pub line: usize,
    /// What is missing there.
    pub expected: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, expected } = self;
        write!(f, "line {line}: expected {expected}")
    }
}

impl std::error::Error for Malformed {}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(digits) => f.write_str(digits),
            Self::Text(text) => write!(f, "\"{text}\""),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", items.join(", "))
            }
        }
    }
}

/// All statements of a file, in their order.
///
/// # Errors
/// The first place that libvirt does not read.
pub fn parse(text: &str) -> Result<Vec<Setting>, Malformed> {
    let mut reader = Reader {
        text,
        at: 0,
        counted: (0, 1),
    };
    let mut settings = Vec::new();
    loop {
        reader.skip(|one| is_blank(one) || is_end(one));
        if reader.rest().is_empty() {
            return Ok(settings);
        }
        if !reader.comment() {
            settings.push(reader.statement()?);
        }
        reader.separator()?;
    }
}

/// The setting that is in force under a name.
#[must_use]
pub fn find<'a>(settings: &'a [Setting], name: &str) -> Option<&'a Setting> {
    settings.iter().find(|setting| setting.name == name)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// A place before `at`, and its line.
    counted: (usize, usize),
}

fn is_blank(one: char) -> bool {
    matches!(one, ' ' | '\t')
}

fn is_end(one: char) -> bool {
    matches!(one, '\n' | '\r')
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|one| !wanted(one)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// Takes these characters, if they are next.
    fn take(&mut self, wanted: &str) -> bool {
        let found = self.rest().starts_with(wanted);
        if found {
            self.at += wanted.len();
        }
        found
    }

    fn line(&mut self) -> usize {
        // Counted from the last place: from the start of the text for each statement would be quadratic.
        let (place, line) = self.counted;
        let line = line + self.text[place..self.at].matches('\n').count();
        self.counted = (self.at, line);
        line
    }

    fn expected<T>(&mut self, expected: &'static str) -> Result<T, Malformed> {
        let line = self.line();
        Err(Malformed { line, expected })
    }

    fn comment(&mut self) -> bool {
        let found = self.take("#");
        if found {
            self.skip(|one| !is_end(one));
        }
        found
    }

    fn separator(&mut self) -> Result<(), Malformed> {
        self.skip(is_blank);
        let next = self.rest().chars().next();
        match next.is_none_or(is_end) || self.take(";") {
            true => Ok(()),
            false => self.expected("a line end"),
        }
    }

    fn statement(&mut self) -> Result<Setting, Malformed> {
        let line = self.line();
        if !self
            .rest()
            .starts_with(|one: char| one.is_ascii_alphabetic())
        {
            return self.expected("a name");
        }
        let name = self
            .skip(|one| one.is_ascii_alphanumeric() || one == '_')
            .to_owned();
        self.skip(is_blank);
        if !self.take("=") {
            return self.expected("'='");
        }
        let value = self.value(0)?;
        self.skip(is_blank);
        self.comment();
        Ok(Setting { name, line, value })
    }

    fn value(&mut self, depth: usize) -> Result<Value, Malformed> {
        self.skip(is_blank);
        if self.take("[") {
            return self.list(depth + 1);
        }
        if self.take("\"\"\"") {
            return self.quoted("\"\"\"");
        }
        for quote in ["\"", "'"] {
            if self.take(quote) {
                return self.quoted(quote);
            }
        }
        let start = self.at;
        let _ = self.take("-") || self.take("+");
        match self.skip(|one| one.is_ascii_digit()).is_empty() {
            true => self.expected("a value"),
            false => Ok(Value::Number(self.text[start..self.at].to_owned())),
        }
    }

    /// The text up to the closing quote.
    fn quoted(&mut self, quote: &str) -> Result<Value, Malformed> {
        let rest = self.rest();
        let several = quote.len() > 1;
        let end = rest.find(quote);
        // Only a text in three quotes may have line ends (virConfParseString).
        match end.filter(|end| several || !rest[..*end].contains(is_end)) {
            None => self.expected("the end of a text"),
            Some(end) => {
                self.at += end + quote.len();
                Ok(Value::Text(rest[..end].to_owned()))
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, Malformed> {
        // Each list in a list is a recursion, and the file may have any content.
        if depth > MAX_DEPTH {
            return self.expected("fewer lists in lists");
        }
        let blank = |one| is_blank(one) || is_end(one);
        let mut items = Vec::new();
        self.skip(blank);
        while !self.take("]") {
            items.push(self.value(depth)?);
            self.skip(blank);
            // A comma before the closing bracket is valid (virConfParseValue).
            if !self.take(",") && !self.rest().starts_with(']') {
                return self.expected("',' or ']'");
            }
            self.skip(blank);
        }
        Ok(Value::List(items))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn parse_reads_each_kind_of_value_and_its_line() {
        let settings = parse(
            "# a comment = \"no setting\"\n\nuri_default = \"qemu:///system\" # behind it\nnumber=-12;other = 'it is \"so\"'\r\n\
             uri_aliases = [\n  \"a=qemu:///system\",\n  'b=test:///default',\n]\ntext = \"\"\"two\nlines = 1\"\"\"\nempty = []\nlast = [ [ 1 ], \"x\" ]",
        );
        let settings = settings.expect("read");
        let found: Vec<_> = settings
            .iter()
            .map(|one| (one.name.as_str(), one.line, one.value.clone()))
            .collect();
        let number = |digits: &str| Value::Number(digits.to_owned());
        assert_eq!(
            found,
            [
                ("uri_default", 3, text("qemu:///system")),
                ("number", 4, number("-12")),
                ("other", 4, text("it is \"so\"")),
                (
                    "uri_aliases",
                    5,
                    Value::List(vec![text("a=qemu:///system"), text("b=test:///default")])
                ),
                ("text", 9, text("two\nlines = 1")),
                ("empty", 11, Value::List(Vec::new())),
                (
                    "last",
                    12,
                    Value::List(vec![Value::List(vec![number("1")]), text("x")])
                ),
            ]
        );
        assert_eq!(settings[6].value.to_string(), "[[1], \"x\"]");
    }

    #[test]
    fn first_of_two_statements_counts() {
        let settings = parse("a = 1\na = 2\n").expect("read");
        assert_eq!(find(&settings, "a").expect("a").line, 1);
        assert_eq!(find(&settings, "b"), None);
    }

    #[test]
    fn parse_names_the_line_that_libvirt_does_not_read() {
        let deep = format!("\na = {}", "[".repeat(100_000));
        for (text, line, expected) in [
            ("a = 1\n= 2", 2, "a name"),
            ("_a = 1", 1, "a name"),
            ("a 1", 1, "'='"),
            ("a =\n1", 1, "a value"),
            ("a = yes", 1, "a value"),
            ("a = 1 b = 2", 1, "a line end"),
            ("a = \"x\ny\"", 1, "the end of a text"),
            ("\n\na = \"\"\"x\n", 3, "the end of a text"),
            ("a = [ 1\n 2 ]", 2, "',' or ']'"),
            ("a = [ 1, ", 1, "a value"),
            (&deep, 2, "fewer lists in lists"),
        ] {
            let malformed = parse(text).expect_err(expected);
            assert_eq!((malformed.line, malformed.expected), (line, expected));
        }
    }
}
