//! How a text is cut into pieces before merging: by stages, each cutting the pieces of the one before.

use super::matcher::Matcher;
use super::unicode::is_numeric;

/// One stage. What it does not match is kept, as pieces of its own.
pub enum Stage {
    /// At the matches of an expression.
    Pattern(Box<Matcher>),
    /// Around numbers: each digit, or runs of them.
    Digits {
        /// Whether every digit is a piece.
        individual: bool,
    },
    /// Before each occurrence of a character.
    Before(char),
}

/// Cuts `text` by all stages and gives the pieces to `sink`, in order. No piece is empty.
pub fn cut(stages: &[Stage], text: &str, sink: &mut dyn FnMut(&str)) {
    let Some((stage, rest)) = stages.split_first() else {
        if !text.is_empty() {
            sink(text);
        }
        return;
    };
    match stage {
        Stage::Pattern(matcher) if rest.is_empty() => by_pattern(matcher, text, sink),
        Stage::Pattern(matcher) => {
            by_pattern(matcher, text, &mut |piece| cut(rest, piece, sink));
        }
        Stage::Digits { individual } => {
            let mut start = 0;
            let mut in_number = false;
            for (at, c) in text.char_indices() {
                let numeric = is_numeric(c);
                if at > start && (numeric != in_number || (numeric && *individual)) {
                    cut(rest, &text[start..at], sink);
                    start = at;
                }
                in_number = numeric;
            }
            cut(rest, &text[start..], sink);
        }
        Stage::Before(mark) => {
            let mut start = 0;
            for (at, _) in text.match_indices(*mark) {
                cut(rest, &text[start..at], sink);
                start = at;
            }
            cut(rest, &text[start..], sink);
        }
    }
}

fn by_pattern(matcher: &Matcher, text: &str, sink: &mut dyn FnMut(&str)) {
    let (mut start, mut at) = (0, 0);
    while at < text.len() {
        let Some(end) = matcher.match_at(text, at) else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
            continue;
        };
        if start < at {
            sink(&text[start..at]);
        }
        sink(&text[at..end]);
        (start, at) = (end, end);
    }
    if start < at {
        sink(&text[start..at]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::pattern::Pattern;
    use super::*;

    fn pieces(stages: &[Stage], text: &str) -> Vec<String> {
        let mut found = Vec::new();
        cut(stages, text, &mut |piece| found.push(piece.to_owned()));
        found
    }

    #[test]
    fn later_stages_see_the_pieces_only() -> Result<(), String> {
        let space = || {
            let pattern = Pattern::parse(r"\s+(?!\S)|\s+")?;
            Ok::<_, String>(Stage::Pattern(Box::new(Matcher::new(pattern))))
        };
        let digits = |individual| Stage::Digits { individual };
        assert_eq!(pieces(&[space()?], "a  12"), ["a", " ", " ", "12"]);
        assert_eq!(
            pieces(&[digits(true), space()?], "a  12"),
            ["a", "  ", "1", "2"]
        );
        assert_eq!(pieces(&[digits(false), space()?], "12a"), ["12", "a"]);
        assert_eq!(
            pieces(&[Stage::Before('▁')], "a▁▁b▁"),
            ["a", "▁", "▁b", "▁"]
        );
        assert!(pieces(&[digits(true)], "").is_empty());
        Ok(())
    }
}
