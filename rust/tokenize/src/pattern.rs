//! The regular expressions that tokenizers cut text by, as far as the matcher covers them.
//!
//! Covered: alternation, groups (`(?:...)`, `(?i:...)` of the letters in contractions, optional or
//! not), single characters, classes of characters, ranges and general categories, `\s`, the
//! quantifiers `?`, `*`, `+` (also possessive) and `{n,m}` of those, and `(?!...)` or `(?=...)` of
//! one class. Anything else is refused, and the tokenizer left to its own program.

use super::unicode;

/// Most classes in one expression: each is a bit of a word.
pub const MOST_CLASSES: usize = 32;

/// A set of characters: some categories and some ranges, or all others.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Class {
    categories: u32,
    ranges: Vec<(u32, u32)>,
    negated: bool,
}

impl Class {
    /// Whether the characters of a kind are in it, those that [`Class::ranges`] names apart.
    pub fn has_kind(&self, kind: u8) -> bool {
        (self.categories >> kind & 1 == 1) != self.negated
    }

    /// The ranges of code points that it names, and whether those are in it.
    pub fn ranges(&self) -> (&[(u32, u32)], bool) {
        (&self.ranges, !self.negated)
    }

    fn of(c: char) -> Self {
        let ranges = vec![(c.into(), c.into())];
        Self {
            ranges,
            ..Self::default()
        }
    }

    fn of_categories(categories: u32, negated: bool) -> Self {
        Self {
            categories,
            negated,
            ..Self::default()
        }
    }

    /// Adds another class; `None` for a complement that names code points.
    fn add(&mut self, other: Self) -> Option<()> {
        if other.negated {
            if !other.ranges.is_empty() {
                return None;
            }
            self.categories |= !other.categories;
        } else {
            self.categories |= other.categories;
            self.ranges.extend(other.ranges);
        }
        Some(())
    }
}

/// One step of an expression; classes are numbers into [`Pattern::classes`].
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// `min` to `max` characters of a class, as many as possible.
    Span {
        class: u8,
        min: u32,
        max: u32,
        possessive: bool,
    },
    /// The first of these that fits, or nothing if it is `optional`.
    Either {
        branches: Vec<Vec<Node>>,
        optional: bool,
    },
    /// The next character is in the class; `negative`: it is not, or there is none.
    Look { class: u8, negative: bool },
}

/// A parsed expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    /// The sets of characters that it names.
    pub classes: Vec<Class>,
    /// What it matches: the first branch that fits.
    pub branches: Vec<Vec<Node>>,
}

impl Pattern {
    /// Parses an expression; `Err` says what in it is not covered.
    pub fn parse(expression: &str) -> Result<Self, String> {
        let mut parser = Parser {
            rest: expression,
            classes: Vec::new(),
            ignore_case: false,
        };
        let branches = parser.branches()?;
        if !parser.rest.is_empty() {
            return Err(parser.not_covered());
        }
        if branches.iter().any(|branch| nullable(branch)) {
            return Err("an expression that matches nothing".into());
        }
        Ok(Self {
            classes: parser.classes,
            branches,
        })
    }
}

/// Whether a sequence can match without taking a character.
fn nullable(nodes: &[Node]) -> bool {
    nodes.iter().all(|node| match node {
        Node::Span { min, .. } => *min == 0,
        Node::Either { branches, optional } => {
            *optional || branches.iter().any(|branch| nullable(branch))
        }
        Node::Look { .. } => true,
    })
}

/// Descends recursively; what is left of the expression shows in errors.
struct Parser<'a> {
    rest: &'a str,
    classes: Vec<Class>,
    ignore_case: bool,
}

impl Parser<'_> {
    fn not_covered(&self) -> String {
        let shown: String = self.rest.chars().take(12).collect();
        format!("{shown:?} in an expression")
    }

    fn take(&mut self, prefix: &str) -> bool {
        let rest = self.rest.strip_prefix(prefix);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn number_of(&mut self, class: Class) -> Result<u8, String> {
        let known = self.classes.iter().position(|old| *old == class);
        let at = known.unwrap_or(self.classes.len());
        if at == MOST_CLASSES {
            return Err(format!("more than {MOST_CLASSES} classes in an expression"));
        }
        if known.is_none() {
            self.classes.push(class);
        }
        Ok(at as u8)
    }

    fn branches(&mut self) -> Result<Vec<Vec<Node>>, String> {
        let mut branches = vec![self.sequence()?];
        while self.take("|") {
            branches.push(self.sequence()?);
        }
        Ok(branches)
    }

    fn sequence(&mut self) -> Result<Vec<Node>, String> {
        let mut nodes = Vec::new();
        while !self.rest.is_empty() && !self.rest.starts_with(['|', ')']) {
            nodes.push(self.item()?);
        }
        Ok(nodes)
    }

    fn item(&mut self) -> Result<Node, String> {
        let negative = self.rest.starts_with("(?!");
        if self.take("(?!") || self.take("(?=") {
            let class = self.class()?;
            return if self.take(")") {
                let class = self.number_of(class)?;
                Ok(Node::Look { class, negative })
            } else {
                Err(self.not_covered())
            };
        }
        let ignore_case = self.ignore_case;
        let grouped = if self.take("(?i:") {
            self.ignore_case = true;
            true
        } else {
            self.take("(?:") || (!self.rest.starts_with("(?") && self.take("("))
        };
        if grouped {
            let branches = self.branches()?;
            self.ignore_case = ignore_case;
            if !self.take(")") {
                return Err(self.not_covered());
            }
            let optional = self.take("?");
            if self.rest.starts_with(['?', '*', '+', '{']) {
                return Err(self.not_covered());
            }
            return Ok(Node::Either { branches, optional });
        }
        let class = self.class()?;
        let class = self.number_of(class)?;
        let (min, max) = self.repeats()?;
        // After braces, a plus repeats all of it instead.
        let possessive = (max == 1 && min == 0 || max == u32::MAX) && self.take("+");
        if self.rest.starts_with(['?', '*', '+', '{']) {
            return Err(self.not_covered());
        }
        Ok(Node::Span {
            class,
            min,
            max,
            possessive,
        })
    }

    fn repeats(&mut self) -> Result<(u32, u32), String> {
        for (sign, range) in [("?", (0, 1)), ("*", (0, u32::MAX)), ("+", (1, u32::MAX))] {
            if self.take(sign) {
                return Ok(range);
            }
        }
        let before = self.rest;
        if !self.take("{") {
            return Ok((1, 1));
        }
        let braces = self.rest.split_once('}').and_then(|(inside, rest)| {
            let (low, high) = inside.split_once(',').unwrap_or((inside, inside));
            let (low, high): (u32, u32) = (low.parse().ok()?, high.parse().ok()?);
            // Other maxima would be mistaken for one of the signs above.
            (low <= high && high > 1 && high < 1000).then_some(((low, high), rest))
        });
        let Some((range, rest)) = braces else {
            self.rest = before;
            return Err(self.not_covered());
        };
        self.rest = rest;
        if self.rest.starts_with('+') {
            return Err(self.not_covered());
        }
        Ok(range)
    }

    /// A character, or what stands for one of several.
    fn class(&mut self) -> Result<Class, String> {
        if self.take("[") {
            return self.bracketed();
        }
        if self
            .rest
            .starts_with(['.', '^', '$', '(', ')', '{', '}', ']', '*', '+', '?', '|'])
        {
            return Err(self.not_covered());
        }
        if self.rest.starts_with('\\') {
            return self.escaped();
        }
        match self.next() {
            Some(c) if self.ignore_case => self.either_case(c),
            Some(c) => Ok(Class::of(c)),
            None => Err("an expression that breaks off".into()),
        }
    }

    /// Both cases of a letter in contractions. Folding goes beyond the two cases (long s, ligatures of
    /// other letters), so no other letter is covered.
    fn either_case(&self, c: char) -> Result<Class, String> {
        let mut class = Class::of(c);
        let all = match c.to_ascii_lowercase() {
            's' => "sS\u{17f}",
            'd' => "dD",
            'm' => "mM",
            't' => "tT",
            'l' => "lL",
            'v' => "vV",
            'r' => "rR",
            'e' => "eE",
            '\'' => "'",
            _ => return Err(format!("{c:?} of either case in an expression")),
        };
        class.ranges = all.chars().map(|c| (c.into(), c.into())).collect();
        Ok(class)
    }

    fn escaped(&mut self) -> Result<Class, String> {
        let before = self.rest;
        let class = self.escape();
        class.ok_or_else(|| {
            self.rest = before;
            self.not_covered()
        })
    }

    fn escape(&mut self) -> Option<Class> {
        self.next();
        let c = self.next()?;
        Some(match c {
            's' | 'S' => Class::of_categories(unicode::white_space(), c == 'S'),
            'd' | 'D' => Class::of_categories(unicode::property("Nd")?, c == 'D'),
            'p' | 'P' => {
                let (name, rest) = self.rest.strip_prefix('{')?.split_once('}')?;
                self.rest = rest;
                Class::of_categories(unicode::property(name)?, c == 'P')
            }
            'n' => Class::of('\n'),
            'r' => Class::of('\r'),
            't' => Class::of('\t'),
            c if c.is_ascii_punctuation() => Class::of(c),
            _ => return None,
        })
    }

    fn bracketed(&mut self) -> Result<Class, String> {
        let negated = self.take("^");
        let mut class = Class::default();
        if self.rest.starts_with(']') {
            return Err(self.not_covered());
        }
        while !self.take("]") {
            if self.rest.starts_with('[') || self.rest.starts_with("&&") {
                return Err(self.not_covered());
            }
            let item = if self.rest.starts_with('\\') {
                self.escaped()?
            } else {
                let c = self.next();
                Class::of(c.ok_or("an expression that breaks off")?)
            };
            let single = match item.ranges[..] {
                [(low, high)] if low == high && !item.negated => Some(low),
                _ => None,
            };
            if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                self.next();
                let high = if self.rest.starts_with('\\') {
                    self.escaped()?
                } else {
                    self.next().map(Class::of).unwrap_or_default()
                };
                match (single, &high.ranges[..]) {
                    (Some(low), &[(high, _)]) if low <= high => class.ranges.push((low, high)),
                    _ => return Err("a range of classes in an expression".into()),
                }
                continue;
            }
            if class.add(item).is_none() {
                return Err("a complement within a class in an expression".into());
            }
        }
        class.negated = negated;
        if self.ignore_case {
            let letters = std::mem::take(&mut class.ranges);
            for &(low, high) in &letters {
                match char::from_u32(low) {
                    Some(c) if low == high => class.ranges.extend(self.either_case(c)?.ranges),
                    _ => return Err("a range of either case in an expression".into()),
                }
            }
            if negated || class.categories != 0 {
                return Err("a class of either case in an expression".into());
            }
        }
        Ok(class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_it_does_not_cover() {
        for expression in [
            "a.b",
            "^a",
            "a$",
            r"\w+",
            "(ab)+",
            "(ab)*",
            "a{1,3}+",
            "a+?",
            "[a[b]]",
            "[a&&b]",
            r"\p{Han}+",
            "(?i:k)",
            "(?<=a)b",
            "(?>a)",
            "a*",
            "",
            "a|",
            "(?!ab)c",
            "[]a]",
            "a{2",
            "a{,3}",
            r"\bx",
            "a**",
            "(?i:[a])",
            "(?i:[^s])",
            r"(?i:[\p{L}])",
            "(?i:[d-e])",
            "[z-a]",
            "(a",
            "a)",
            "a++b{1}",
        ] {
            assert!(Pattern::parse(expression).is_err(), "{expression}");
        }
    }

    #[test]
    fn reads_classes() -> Result<(), String> {
        let inside = |pattern: &Pattern, c: char| {
            let (ranges, named) = pattern.classes[0].ranges();
            match ranges
                .iter()
                .find(|range| range.0 <= c.into() && range.1 >= c.into())
            {
                Some(_) => named,
                None => pattern.classes[0].has_kind(unicode::kind(c.into())),
            }
        };
        let pattern = Pattern::parse(r"[^\s\p{L}a-c\-\]]")?;
        assert!("1!".chars().all(|c| inside(&pattern, c)));
        assert!(!"b-]\u{85}é".chars().any(|c| inside(&pattern, c)));
        let pattern = Pattern::parse(r"[\S\n]")?;
        assert!("a\n".chars().all(|c| inside(&pattern, c)));
        assert!(!" \r".chars().any(|c| inside(&pattern, c)));
        Ok(())
    }
}
