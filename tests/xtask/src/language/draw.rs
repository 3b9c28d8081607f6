//! A random choice of sentences for a reader to judge.

use super::{Kind, Text};

/// Sentences of at least this many words; shorter ones are names and labels.
const WORDS: usize = 6;

/// `count` sentences, from each kind about as many; the same for the same seed.
pub(super) fn sentences(texts: &[Text], seed: u64, count: usize) -> Vec<Text> {
    let mut state = seed;
    let mut drawn = Vec::new();
    let mut kinds: Vec<Vec<Text>> = [Kind::Message, Kind::Comment, Kind::Document]
        .map(|kind| all(texts, kind))
        .into();
    let mut turn = 0;
    while drawn.len() < count && kinds.iter().any(|kind| !kind.is_empty()) {
        let number = kinds.len();
        let kind = &mut kinds[turn % number];
        turn += 1;
        if !kind.is_empty() {
            let index = usize::try_from(next(&mut state)).unwrap_or(usize::MAX) % kind.len();
            drawn.push(kind.swap_remove(index));
        }
    }
    drawn
}

fn all(texts: &[Text], kind: Kind) -> Vec<Text> {
    let texts = texts.iter().filter(|one| one.kind == kind);
    let sentences = texts.flat_map(|one| {
        let parts = one.text.split_inclusive(". ");
        let parts = parts.filter(|part| part.split_whitespace().count() >= WORDS);
        parts.map(|part| Text {
            text: part.trim().to_owned(),
            ..one.clone()
        })
    });
    sentences.collect()
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (mixed ^ (mixed >> 31)) >> 1
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_seed_draws_the_same_sentences_of_each_kind() {
        let text = |kind, line| Text {
            kind,
            path: PathBuf::from("a"),
            line,
            text: "One. This is a sentence of seven words. And this is the other one here."
                .to_owned(),
        };
        let kinds = [Kind::Message, Kind::Comment, Kind::Document];
        let texts: Vec<Text> = kinds.map(|kind| text(kind, 1)).into();
        let first = sentences(&texts, 7, 3);
        assert_eq!(first, sentences(&texts, 7, 3));
        assert_eq!(first.iter().map(|one| one.kind).collect::<Vec<_>>(), kinds);
        assert_eq!(sentences(&texts, 7, 20).len(), 6);
    }
}
