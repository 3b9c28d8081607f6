//! Texts that differ only in their numbers as one text: `behind expander bus 1` and `... 3` are `behind expander bus 1, 3`.

use std::fmt;

/// Values that one place of a folded text shows; the others are counted.
const SHOWN: usize = 8;
/// Characters around a value that are not part of it.
const AROUND: [char; 8] = ['\'', '"', '(', ')', ',', ';', ':', '.'];

/// Texts of one form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folded {
    words: Vec<Word>,
}

/// A word, with its values in the order of the texts. A word that is in all texts the same has one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Word {
    /// Characters before and behind the values: quotes, commas.
    around: (String, String),
    values: Vec<String>,
}

impl Folded {
    /// One text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self {
            words: text.split(' ').map(Word::new).collect(),
        }
    }

    /// Adds a text; false, and no change, if it differs in more than its numbers.
    pub fn join(&mut self, text: &str) -> bool {
        let words: Vec<Word> = text.split(' ').map(Word::new).collect();
        let is_alike = words.len() == self.words.len()
            && words
                .iter()
                .zip(&self.words)
                .all(|(new, old)| old.fits(new));
        if is_alike {
            for (old, new) in self.words.iter_mut().zip(words) {
                let fresh = new.values.into_iter();
                let fresh: Vec<String> = fresh.filter(|one| !old.values.contains(one)).collect();
                old.values.extend(fresh);
            }
        }
        is_alike
    }
}

impl Word {
    fn new(word: &str) -> Self {
        let behind = word.trim_start_matches(AROUND);
        let before = &word[..word.len() - behind.len()];
        let value = behind.trim_end_matches(AROUND);
        let behind = &behind[value.len()..];
        Self {
            around: (before.to_owned(), behind.to_owned()),
            values: vec![value.to_owned()],
        }
    }

    /// True if the other word has the same value, or both have a number.
    fn fits(&self, other: &Self) -> bool {
        let has_number = |word: &Self| {
            let mut values = word.values.iter();
            values.all(|value| value.contains(|one: char| one.is_ascii_digit()))
        };
        self.around == other.around
            && (self.values == other.values || (has_number(self) && has_number(other)))
    }
}

impl fmt::Display for Folded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, word) in self.words.iter().enumerate() {
            let (before, behind) = &word.around;
            let (shown, rest) = word.values.split_at(word.values.len().min(SHOWN));
            // Each value keeps its quotes; a comma behind the word stays behind the last one.
            let quote = |one: &String| match (before.ends_with('\''), behind.starts_with('\'')) {
                (true, true) => format!("'{one}'"),
                _ => one.clone(),
            };
            let shown: Vec<String> = shown.iter().map(quote).collect();
            let is_quoted = before.ends_with('\'') && behind.starts_with('\'');
            let (before, behind) = match is_quoted {
                true => (&before[..before.len() - 1], &behind[1..]),
                false => (before.as_str(), behind.as_str()),
            };
            let space = if number == 0 { "" } else { " " };
            write!(f, "{space}{before}{}", shown.join(", "))?;
            if !rest.is_empty() {
                write!(f, " and {} more", rest.len())?;
            }
            f.write_str(behind)?;
        }
        Ok(())
    }
}

/// Items with equal or alike texts, each group with its items in order.
pub fn groups<T>(items: impl IntoIterator<Item = (T, String)>) -> Vec<(Vec<T>, Folded)> {
    let mut groups: Vec<(Vec<T>, Folded)> = Vec::new();
    for (item, text) in items {
        match groups
            .iter_mut()
            .position(|(_, folded)| folded.clone().join(&text))
        {
            Some(at) => {
                groups[at].1.join(&text);
                groups[at].0.push(item);
            }
            None => groups.push((vec![item], Folded::new(&text))),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(texts: &[&str]) -> Option<String> {
        let mut folded = Folded::new(texts[0]);
        let all = texts[1..].iter().all(|text| folded.join(text));
        all.then(|| folded.to_string())
    }

    #[test]
    fn texts_that_differ_in_numbers_become_one_with_all_of_them() {
        for (texts, wanted) in [
            (&["a bus 1, b", "a bus 3, b"][..], "a bus 1, 3, b"),
            (&["on '0:1' x", "on '0:2' x"], "on '0:1', '0:2' x"),
            (&["same 7", "same 7"], "same 7"),
            (&["bus 1", "bus 1", "bus 6"], "bus 1, 6"),
            (
                &["of /dev/egm4: 2", "of /dev/egm5: 3"],
                "of /dev/egm4, /dev/egm5: 2, 3",
            ),
            (&["`- x 1", "`- x 2"], "`- x 1, 2"),
        ] {
            assert_eq!(folded(texts).as_deref(), Some(wanted));
        }
    }

    #[test]
    fn texts_that_differ_in_words_stay_apart() {
        for texts in [
            &["a root port", "a free port"][..],
            &["bus 1", "bus 1 of 2"],
            &["bus 1", "bus one"],
            &["bus 1,", "bus 2;"],
        ] {
            assert_eq!(folded(texts), None, "{texts:?}");
        }
        let mut one = Folded::new("bus 1");
        assert!(!one.join("port 2"));
        assert_eq!(one.to_string(), "bus 1");
    }

    #[test]
    fn long_lists_are_counted() {
        let texts: Vec<String> = (0..10).map(|number| format!("bus {number}, x")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let wanted = "bus 0, 1, 2, 3, 4, 5, 6, 7 and 2 more, x";
        assert_eq!(folded(&texts).as_deref(), Some(wanted));
    }

    #[test]
    fn items_are_grouped_by_their_text() {
        let items = [(1, "bus 1"), (2, "other"), (3, "bus 2"), (4, "other")];
        let groups = groups(items.map(|(item, text)| (item, text.to_owned())));
        let found = groups
            .iter()
            .map(|(items, text)| (items.clone(), text.to_string()));
        let found: Vec<_> = found.collect();
        let wanted = [
            (vec![1, 3], "bus 1, 2".into()),
            (vec![2, 4], "other".into()),
        ];
        assert_eq!(found, wanted);
    }
}
