//! The lines that `variantctl connect --enable` puts into libvirt.conf, and their removal.
//!
//! They are the first lines of the file, because libvirt uses the first of two settings with one name. The bytes after them do not
//! change, also if the last line has no line end.

use std::path::Path;

use ::domain::code::Code;
use ::domain::hint::Hint;
use ::domain::refusal::Refusal;
use settings::libvirt::{Setting, Value, find, parse};

use super::URI;

/// libvirt.conf's setting for clients that name no URI.
pub(super) const DEFAULT: &str = "uri_default";
/// Its setting for short names.
pub(super) const ALIASES: &str = "uri_aliases";
/// The short name of the transport.
pub(super) const ALIAS: &str = "variantd";

const FIRST: &str = "# variantd: begin; 'variantctl connect --disable' removes these lines\n";
/// As [`FIRST`], where there was no libvirt.conf.
const FIRST_OF_NEW: &str = "# variantd: begin; 'variantctl connect --disable' removes this file\n";
const LAST: &str = "# variantd: end\n";

/// The content of libvirt.conf that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Edit {
    /// As it is.
    Same,
    /// This text.
    Text(String),
    /// No file.
    Removed,
}

/// The statements of the two settings, as libvirt.conf has them.
pub(super) fn statements(with_alias: bool) -> String {
    let default = format!("{DEFAULT} = \"{URI}\"\n");
    match with_alias {
        true => format!("{default}{ALIASES} = [ \"{ALIAS}={URI}\" ]\n"),
        false => default,
    }
}

fn block(with_alias: bool, is_new: bool) -> String {
    let first = if is_new { FIRST_OF_NEW } else { FIRST };
    format!("{first}{}{LAST}", statements(with_alias))
}

/// The content with the lines; `None` stands for a file that does not exist.
///
/// # Errors
/// libvirt does not read the file, or it has another `uri_default`.
pub(super) fn added(text: Option<&str>, path: &Path) -> Result<Edit, Refusal> {
    let settings = read(text.unwrap_or_default(), path)?;
    match find(&settings, DEFAULT) {
        Some(setting) if is_ours(setting) => Ok(Edit::Same),
        Some(setting) => {
            let Setting { line, value, .. } = setting;
            let reason = format!("'{}', line {line}: {DEFAULT} is {value}", path.display());
            let hint = Hint::with(
                "remove that line, then run {}",
                "variantctl connect --enable",
            );
            Err(refusal(reason, hint))
        }
        None => {
            // libvirt uses the first of two settings, so a second list of aliases would hide the administrator's.
            let with_alias = find(&settings, ALIASES).is_none();
            let block = block(with_alias, text.is_none());
            Ok(Edit::Text(block + text.unwrap_or_default()))
        }
    }
}

/// The content without the lines.
///
/// # Errors
/// libvirt does not read the file, or the lines are not as they were added.
pub(super) fn removed(text: Option<&str>, path: &Path) -> Result<Edit, Refusal> {
    let Some(text) = text else {
        return Ok(Edit::Same);
    };
    for (with_alias, is_new) in [(true, true), (false, true), (true, false), (false, false)] {
        let block = block(with_alias, is_new);
        let is_line = |at: &usize| *at == 0 || text[..*at].ends_with('\n');
        if let Some(at) = text.find(&block).filter(is_line) {
            let rest = [&text[..at], &text[at + block.len()..]].concat();
            return Ok(match is_new && rest.is_empty() {
                true => Edit::Removed,
                false => Edit::Text(rest),
            });
        }
    }
    // The lines were edited, so the block may contain lines of the administrator.
    let settings = read(text, path)?;
    let own = find(&settings, DEFAULT).filter(|setting| is_ours(setting));
    let edited = [FIRST, FIRST_OF_NEW, LAST]
        .iter()
        .find_map(|line| text.find(line));
    let line = match (own, edited) {
        (None, None) => return Ok(Edit::Same),
        (Some(setting), _) => setting.line,
        (None, Some(at)) => text[..at].matches('\n').count() + 1,
    };
    let reason = format!(
        "'{}', line {line}: these are not the lines of 'variantctl connect --enable'",
        path.display()
    );
    Err(refusal(reason, "remove them with an editor"))
}

/// The statements of a file.
///
/// # Errors
/// libvirt does not read it.
pub(super) fn read(text: &str, path: &Path) -> Result<Vec<Setting>, Refusal> {
    parse(text).map_err(|malformed| {
        let reason = format!("libvirt cannot read '{}': {malformed}", path.display());
        refusal(reason, "correct that line")
    })
}

fn refusal(reason: String, hint: impl Into<Hint>) -> Refusal {
    Refusal::new(Code::ConnectSettings, reason, hint)
}

/// The transport is what the setting names.
pub(super) fn is_ours(setting: &Setting) -> bool {
    setting.value == Value::Text(URI.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> &'static Path {
        Path::new("/etc/libvirt/libvirt.conf")
    }

    fn enabled(text: Option<&str>) -> String {
        match added(text, path()) {
            Ok(Edit::Text(text)) => text,
            other => unreachable!("{other:?}"),
        }
    }

    /// Contents of libvirt.conf without the transport, and whether the alias joins them.
    const PLAIN: [(&str, bool); 6] = [
        ("", true),
        ("# only a comment", true),
        ("#uri_default = \"qemu:///system\"\n\n", true),
        ("uri_aliases = [\n  \"a=test:///default\",\n]\n", false),
        ("other = 1; text = \"\"\"\nuri_default = 1\"\"\"\r\n", true),
        ("\u{fc} = 1", true),
    ];

    #[test]
    fn disable_restores_each_byte() {
        for (text, with_alias) in &PLAIN[..5] {
            let enabled = enabled(Some(text));
            assert!(enabled.ends_with(text), "{enabled}");
            let settings = read(&enabled, path()).expect("libvirt reads it");
            assert!(find(&settings, DEFAULT).is_some_and(is_ours), "{enabled}");
            let aliases = find(&settings, ALIASES).map(|setting| &setting.value);
            let own = Value::List(vec![Value::Text(format!("{ALIAS}={URI}"))]);
            assert_eq!(aliases == Some(&own), *with_alias, "{enabled}");
            assert_eq!(added(Some(&enabled), path()), Ok(Edit::Same));
            let before = Ok(Edit::Text((*text).to_owned()));
            assert_eq!(removed(Some(&enabled), path()), before);
            assert_eq!(removed(Some(text), path()), Ok(Edit::Same));
        }
    }

    #[test]
    fn disable_keeps_lines_that_came_later() {
        let later = enabled(Some("a = 1\n")).replace("a = 1", "b = 2");
        let moved = format!("# above\n{later}");
        let edit = removed(Some(&moved), path());
        assert_eq!(edit, Ok(Edit::Text("# above\nb = 2\n".to_owned())));
    }

    #[test]
    fn new_file_is_removed_while_nothing_else_is_in_it() {
        let new = enabled(None);
        assert_eq!(removed(Some(&new), path()), Ok(Edit::Removed));
        let longer = format!("{new}a = 1\n");
        let edit = removed(Some(&longer), path());
        assert_eq!(edit, Ok(Edit::Text("a = 1\n".to_owned())));
        assert_eq!(removed(None, path()), Ok(Edit::Same));
    }

    #[test]
    fn settings_of_the_administrator_are_refused_with_their_line() {
        let refused = |edit: Result<Edit, Refusal>| edit.expect_err("a refusal").to_string();
        let text = "# mine\nuri_default = \"qemu:///session\"\n";
        assert_eq!(
            refused(added(Some(text), path())),
            "'/etc/libvirt/libvirt.conf', line 2: uri_default is \"qemu:///session\" (VD-CON-001); remove that line, then run \
             'variantctl connect --enable'"
        );
        assert_eq!(removed(Some(text), path()), Ok(Edit::Same));
        // The administrator's line is behind the added ones, and comes into force again.
        let behind = enabled(Some("")) + text;
        assert_eq!(added(Some(&behind), path()), Ok(Edit::Same));
        assert_eq!(
            removed(Some(&behind), path()),
            Ok(Edit::Text(text.to_owned()))
        );
        let own = statements(false);
        assert_eq!(added(Some(&own), path()), Ok(Edit::Same));
        assert_eq!(
            refused(removed(Some(&own), path())),
            "'/etc/libvirt/libvirt.conf', line 1: these are not the lines of 'variantctl connect --enable' (VD-CON-001); remove them \
             with an editor"
        );
        let edited = enabled(Some("")).replace("qemu+ext", "test+ext");
        let refusal = refused(removed(Some(&edited), path()));
        assert!(refusal.contains("line 1: these are not"), "{refusal}");
    }

    #[test]
    fn file_that_libvirt_does_not_read_is_not_changed() {
        let (text, _) = PLAIN[5];
        for edit in [added(Some(text), path()), removed(Some(text), path())] {
            let refusal = edit.expect_err("a refusal").to_string();
            assert_eq!(
                refusal,
                "libvirt cannot read '/etc/libvirt/libvirt.conf': line 1: expected a name (VD-CON-001); correct that line"
            );
        }
    }
}
