//! Patterns of Go's dialect and texts to search, drawn from a seed.

use std::fmt::Write;

/// Random numbers that come again with the same seed (SplitMix64).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }

    /// True once in so many throws.
    pub fn once_in(&mut self, throws: usize) -> bool {
        self.below(throws) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Characters that are the same in Unicode 15.0 and later: of every length in UTF-8, with foldings of every kind.
#[rustfmt::skip]
const CHARS: &[char] = &[
    'a', 'b', 'c', 'a', 'b', 'k', 's', 'i', 'K', 'S', 'A', 'Z', 'z', '0', '7', '9', '_', '-', '@', '.', ' ', '\n',
    '\t', '\u{b}', '\r', '\0', '\u{7f}', '\u{85}', '!', '/', ':', '[', ']', '^', '{', '}', '|', '(', ')', '*', '+',
    '?', '\\', '$', '&', '~', ',', '<', '=', 'é', 'É', 'ß', 'ẞ', 'ſ', '\u{212A}', 'İ', 'ı', 'å', 'Å', '\u{212B}',
    'µ', 'μ', 'Μ', 'σ', 'ς', 'Σ', '\u{1C4}', '\u{1C5}', '\u{1C6}', '\u{345}', 'ι', 'Ι', 'θ', 'ϑ', 'ϴ', 'ж', 'Ж', 'ა',
    'Ა', 'Ꭰ', 'ꭰ', '中', 'か', 'カ', '٣', '½', 'Ⅷ', 'ⅷ', '€', '\u{2028}', '\u{feff}', '\u{fffd}', '\u{fffe}',
    '\u{d7ff}', '\u{e000}', '\u{ffff}', '𐐀', '𐐨', '𝒳', '😀', '\u{1e921}', '\u{1e943}', '\u{e0001}', '\u{10ffff}',
];

#[rustfmt::skip]
const SYNTAX: &[&str] = &[
    "(", ")", "[", "]", "{", "}", "|", "*", "+", "?", "^", "$", ".", "\\", "-", ",", ":", "<", ">", "P", "p", "Q",
    "E", "x", "i", "m", "s", "U", "0", "1", "7", "9", "a", "b", "d", "D", "w", "W", "S", "z", "A", "B", "C", "=",
    "!", "&", "&&", "#", "'", "é", "K", "\n", "(?", "(?P<", "(?:", "(?i)", "[:", ":]", "[^", "\\p{", "\\Q", "\\E",
    "{2}", "{2,", "{1000}", "\\x{", "[[:alpha:]]",
];

/// A drawn pattern, and a text that it matches if no flag or boundary is against it.
pub struct Drawn {
    pub pattern: String,
    pub sample: String,
}

/// Draws patterns; `names` is what `\p{...}` may hold.
pub struct Corpus<'n> {
    pub dice: Dice,
    pub names: &'n [String],
}

impl Corpus<'_> {
    /// A pattern, right or wrong.
    pub fn pattern(&mut self) -> Drawn {
        if self.dice.once_in(12) {
            let length = 1 + self.dice.below(12);
            return Drawn { pattern: (0..length).map(|_| self.dice.pick(SYNTAX)).collect(), sample: self.text() };
        }
        let depth = self.dice.below(5);
        let (mut pattern, sample) = self.alternation(depth);
        let ends = [
            ("", ""),
            ("", ""),
            ("^", ""),
            ("", "$"),
            ("^", "$"),
            ("^(?:", ")$"),
            ("^(", ")"),
            ("^", ".*"),
            (".*", "$"),
        ];
        let (start, end) = self.dice.pick(&ends);
        pattern = format!("{start}{pattern}{end}");
        if self.dice.once_in(4) {
            for _ in 0..=self.dice.below(3) {
                pattern = self.mutated(&pattern, true);
            }
        }
        Drawn { pattern, sample }
    }

    /// Texts to search: the sample, what is near it, and what has nothing to do with it.
    pub fn texts(&mut self, sample: &str) -> Vec<String> {
        let mut texts = vec![sample.to_owned(), self.mutated(sample, false)];
        let near = self.mutated(&texts[1], false);
        texts.push(self.refolded(&near));
        texts.push(self.refolded(sample));
        texts.push(format!("{}{sample}{}", self.text(), self.text()));
        texts.push(if self.dice.once_in(3) { sample.replace('\n', "") } else { self.text() });
        for text in &mut texts {
            // Go's backtracker and ours take their time for longer ones.
            while text.len() > 300 {
                text.pop();
            }
        }
        texts
    }

    fn text(&mut self) -> String {
        (0..self.dice.below(5)).map(|_| self.dice.pick(CHARS)).collect()
    }

    /// The same text with the case of its characters changed.
    fn refolded(&mut self, text: &str) -> String {
        const FOLDS: &[&str] =
            &["kK\u{212A}", "sSſ", "ßẞ", "åÅ\u{212B}", "µμΜ", "σςΣ", "\u{1C4}\u{1C5}\u{1C6}", "\u{345}ιΙ", "θϑϴ", "ⅷⅧ"];
        let mut folded = String::new();
        for c in text.chars() {
            let others: Vec<char> = match FOLDS.iter().find(|others| others.contains(c)) {
                Some(others) => others.chars().collect(),
                None => c.to_lowercase().chain(c.to_uppercase()).chain([c]).collect(),
            };
            folded.push(self.dice.pick(&others));
        }
        folded
    }

    /// A text with one change.
    fn mutated(&mut self, text: &str, is_pattern: bool) -> String {
        let mut chars: Vec<String> = text.chars().map(String::from).collect();
        let at = self.dice.below(chars.len() + 1);
        let new = if is_pattern { self.dice.pick(SYNTAX).to_owned() } else { self.dice.pick(CHARS).to_string() };
        match self.dice.below(4) {
            0 if at < chars.len() => drop(chars.remove(at)),
            1 if at < chars.len() => chars[at] = new,
            2 if at + 1 < chars.len() => chars.swap(at, at + 1),
            _ => chars.insert(at, new),
        }
        chars.concat()
    }

    fn alternation(&mut self, depth: usize) -> (String, String) {
        let branches = if self.dice.once_in(3) { 1 + self.dice.below(5) } else { 1 };
        let taken = self.dice.below(branches);
        let (mut pattern, mut sample) = (String::new(), String::new());
        // Common beginnings are what alternatives are factored by.
        let common = if self.dice.once_in(3) { self.repeated(0) } else { Default::default() };
        for at in 0..branches {
            if at > 0 {
                pattern.push('|');
            }
            let (mut branch, mut found) = (String::new(), String::new());
            if self.dice.once_in(2) {
                branch.push_str(&common.0);
                found.push_str(&common.1);
            }
            for _ in 0..self.dice.below(5) {
                let (piece, text) = self.repeated(depth);
                branch.push_str(&piece);
                found.push_str(&text);
            }
            pattern.push_str(&branch);
            if at == taken {
                sample = found;
            }
        }
        (pattern, sample)
    }

    fn repeated(&mut self, depth: usize) -> (String, String) {
        let (mut pattern, sample) = self.piece(depth);
        if !self.dice.once_in(3) {
            return (pattern, sample);
        }
        let (min, more) = (self.dice.below(4), self.dice.below(4));
        let times = match self.dice.below(7) {
            0 => self.sign(&mut pattern, "*", min),
            1 => self.sign(&mut pattern, "+", min + 1),
            2 => self.sign(&mut pattern, "?", min % 2),
            3 => self.sign(&mut pattern, &format!("{{{min}}}"), min),
            4 => self.sign(&mut pattern, &format!("{{{min},}}"), min + more),
            5 => self.sign(&mut pattern, &format!("{{{min},{}}}", min + more), min + more / 2),
            _ => {
                let counts = [
                    "{,3}",
                    "{01}",
                    "{2,1}",
                    "{1001}",
                    "{99999999999}",
                    "{500}",
                    "{30}",
                    "{",
                    "}",
                    "{a}",
                    "{ 1}",
                    "{0}",
                    "{1,1}",
                ];
                let count = self.dice.pick(&counts);
                self.sign(&mut pattern, count, 1)
            }
        };
        (pattern, sample.repeat(times))
    }

    fn sign(&mut self, pattern: &mut String, sign: &str, times: usize) -> usize {
        pattern.push_str(sign);
        if self.dice.once_in(6) {
            pattern.push(self.dice.pick(&['?', '?', '?', '+', '*', '{']));
        }
        times
    }

    fn piece(&mut self, depth: usize) -> (String, String) {
        match self.dice.below(if depth == 0 { 20 } else { 28 }) {
            0 => (self.dice.pick(&[".", "(?s:.)", r"[^\n]", ".*", ".+"]).to_owned(), self.dice.pick(CHARS).to_string()),
            1 => {
                (self.dice.pick(&["^", "$", r"\b", r"\B", r"\A", r"\z", "(?m:^)", "(?m:$)"]).to_owned(), String::new())
            }
            2 | 3 => self.class(),
            4 => self.named(),
            5 => {
                let text = self.text();
                (format!(r"\Q{text}{}", self.dice.pick(&[r"\E", r"\E", ""])), text)
            }
            6 => self.escape(),
            7 => (
                self.dice
                    .pick(&["(?i)", "(?m)", "(?s)", "(?U)", "(?-i)", "(?is-m)", "(?i-s)", "(?-)", "(?)", "(?:)"])
                    .to_owned(),
                String::new(),
            ),
            8..=19 => self.literal(),
            _ => {
                let (inner, sample) = self.alternation(depth - 1);
                let opening =
                    ["(", "(", "(?:", "(?:", "(?i:", "(?s:", "(?m:", "(?-i:", "(?P<n>", "(?<n>", "(?U:", "(?i)("];
                (format!("{}{inner})", self.dice.pick(&opening)), sample)
            }
        }
    }

    fn literal(&mut self) -> (String, String) {
        let c = self.dice.pick(CHARS);
        let is_meta = "\\^$.|?*+()[]{}".contains(c);
        let pattern = match self.dice.below(8) {
            0 => format!(r"\x{{{:X}}}", u32::from(c)),
            1 if c.is_ascii_punctuation() => format!(r"\{c}"),
            2 if u32::from(c) < 0x100 => format!(r"\x{:02x}", u32::from(c)),
            3 if u32::from(c) < 0x40 => format!(r"\0{:02o}", u32::from(c)),
            _ if is_meta => format!(r"\{c}"),
            _ => c.to_string(),
        };
        (pattern, c.to_string())
    }

    /// A backslash and any ASCII character, and escapes that are near to right.
    fn escape(&mut self) -> (String, String) {
        let near = [
            r"\x",
            r"\x1",
            r"\x{}",
            r"\x{110000}",
            r"\x{g}",
            r"\8",
            r"\77",
            r"\777",
            r"\1",
            r"[\x{D800}-\x{DFFF}]",
            r"\p",
            r"\pZ",
            r"\P{^L}",
            r"\p{^}",
        ];
        if self.dice.once_in(3) {
            return (self.dice.pick(&near).to_owned(), self.text());
        }
        let c = char::from(u8::try_from(32 + self.dice.below(95)).unwrap());
        (format!(r"\{c}"), self.dice.pick(&['\n', '\t', ' ', 'a', '5', c]).to_string())
    }

    fn named(&mut self) -> (String, String) {
        let perl = [r"\d", r"\D", r"\s", r"\S", r"\w", r"\W", r"\pN", r"\PN", r"\pL", r"\PL", r"\pZ"];
        let pattern = if self.dice.once_in(2) || self.names.is_empty() {
            self.dice.pick(&perl).to_owned()
        } else {
            let name = &self.names[self.dice.below(self.names.len())];
            let cased = match self.dice.below(4) {
                0 => name.to_lowercase(),
                1 => name.to_uppercase(),
                _ => name.clone(),
            };
            format!(r"\{}{{{}{cased}}}", self.dice.pick(&['p', 'P']), self.dice.pick(&["", "", "^"]))
        };
        (pattern, self.dice.pick(CHARS).to_string())
    }

    fn class(&mut self) -> (String, String) {
        let posix = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper",
            "word", "xdigit", "nope", "^word", "^digit",
        ];
        let mut pattern = self.dice.pick(&["[", "[", "[^", "[]", "[-", "[^]"]).to_owned();
        let mut sample = String::new();
        for _ in 0..1 + self.dice.below(4) {
            match self.dice.below(8) {
                0 => write!(pattern, "[:{}:]", self.dice.pick(&posix)).unwrap(),
                1 => pattern.push_str(&self.named().0),
                2 => pattern.push_str(self.dice.pick(&[
                    "&&",
                    "--",
                    "~~",
                    "[",
                    "-",
                    "^",
                    r"\b",
                    r"\Q",
                    "a-",
                    "a-z",
                    "A-Z",
                    "k-",
                    r"\x{D7FF}-\x{E000}",
                ])),
                3 => {
                    let (low, high) = (self.dice.pick(CHARS), self.dice.pick(CHARS));
                    let (low, high) = if self.dice.once_in(10) { (low, high) } else { (low.min(high), low.max(high)) };
                    let escaped = |c: char| if "\\]-[^".contains(c) { format!(r"\{c}") } else { c.to_string() };
                    write!(pattern, "{}-{}", escaped(low), escaped(high)).unwrap();
                    sample = low.to_string();
                }
                _ => {
                    let (piece, text) = self.literal();
                    pattern.push_str(&piece);
                    sample = text;
                }
            }
        }
        pattern.push(']');
        if sample.is_empty() {
            sample = self.dice.pick(CHARS).to_string();
        }
        (pattern, sample)
    }
}
