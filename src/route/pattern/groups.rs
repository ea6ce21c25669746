//! The classes that have a name: Perl's and POSIX's, which are ASCII, and Unicode's, as Go knows them.

use regex_syntax::hir::{Class as HirClass, HirKind};

use super::class::{Class, MAX, Range, fold};

const DIGIT: &[Range] = &[(0x30, 0x39)];
const WORD: &[Range] = &[(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)];

/// `\d`, `\s`, `\w` and their opposites, by the letter; `folded` under `(?i)`.
pub(super) fn perl(letter: u8, folded: bool) -> Option<Class> {
    let ranges = match letter.to_ascii_lowercase() {
        b'd' => DIGIT,
        // Without the vertical tab.
        b's' => &[(0x09, 0x0A), (0x0C, 0x0D), (0x20, 0x20)],
        b'w' => WORD,
        _ => return None,
    };
    Some(group(ranges, letter.is_ascii_uppercase(), folded))
}

/// `[:alpha:]` and its like, by what stands between the colons.
pub(super) fn posix(name: &str, folded: bool) -> Option<Class> {
    let (negated, name) = name.strip_prefix('^').map_or((false, name), |name| (true, name));
    let ranges: &[Range] = match name {
        "alnum" => &[(0x30, 0x39), (0x41, 0x5A), (0x61, 0x7A)],
        "alpha" => &[(0x41, 0x5A), (0x61, 0x7A)],
        "ascii" => &[(0, 0x7F)],
        "blank" => &[(0x09, 0x09), (0x20, 0x20)],
        "cntrl" => &[(0, 0x1F), (0x7F, 0x7F)],
        "digit" => DIGIT,
        "graph" => &[(0x21, 0x7E)],
        "lower" => &[(0x61, 0x7A)],
        "print" => &[(0x20, 0x7E)],
        "punct" => &[(0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E)],
        "space" => &[(0x09, 0x0D), (0x20, 0x20)],
        "upper" => &[(0x41, 0x5A)],
        "word" => WORD,
        "xdigit" => &[(0x30, 0x39), (0x41, 0x46), (0x61, 0x66)],
        _ => return None,
    };
    Some(group(ranges, negated, folded))
}

/// `\p{name}`, by the name; its case, and spaces, hyphens and underscores in it, do not matter.
pub(super) fn unicode(name: &str, negated: bool, folded: bool) -> Option<Class> {
    let name = canonical(name);
    let name = name.as_str();
    if name == "Any" {
        return Some(group(&[(0, MAX)], negated, false));
    }
    if name == "Ascii" {
        return Some(group(&[(0, 0x7F)], negated, folded));
    }
    if name == "Assigned" {
        return Some(group(table("gc=Cn")?.ranges(), !negated, folded));
    }
    let alias = ALIASES.iter().find_map(|&(alias, category)| (alias == name).then_some(category));
    let class = match alias.unwrap_or(if name == "Lc" { "LC" } else { name }) {
        // Surrogates are in no table of characters.
        "Cs" => Class::from(&[(0xD800, 0xDFFF)][..]),
        "C" => {
            let mut class = table("gc=C")?;
            class.add((0xD800, 0xDFFF));
            class.clean();
            class
        }
        category if CATEGORIES.contains(&category) => table(&format!("gc={category}"))?,
        script if SCRIPTS.contains(&script) => table(&format!("sc={script}"))?,
        _ => return None,
    };
    // Go has no table of what is equal to a cased letter, and leaves the class as it is.
    let is_cased = name == "Lc" || alias == Some("LC");
    Some(group(class.ranges(), negated, folded && !is_cased))
}

fn group(ranges: &[Range], negated: bool, folded: bool) -> Class {
    let class = Class::from(ranges);
    let class = if folded { fold(&class) } else { class };
    if negated { class.negated() } else { class }
}

/// A class of the library's tables.
fn table(property: &str) -> Option<Class> {
    let hir = regex_syntax::parse(&format!(r"\p{{{property}}}")).ok()?;
    match hir.kind() {
        HirKind::Class(HirClass::Unicode(class)) => Some(Class::from(class)),
        // A class of one character.
        HirKind::Literal(literal) => {
            let only = u32::from(std::str::from_utf8(&literal.0).ok()?.chars().next()?);
            Some(Class::from(&[(only, only)][..]))
        }
        _ => None,
    }
}

/// The first letter a capital, the others small, and no space, hyphen or underscore.
fn canonical(name: &str) -> String {
    let mut canonical: String = name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).collect();
    canonical.make_ascii_lowercase();
    if let Some(first) = canonical.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    canonical
}

const CATEGORIES: &[&str] = &[
    "C", "Cc", "Cf", "Cn", "Co", "Cs", "L", "LC", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N", "Nd", "Nl",
    "No", "P", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm", "So", "Z", "Zl", "Zp", "Zs",
];

/// The canonical long names of categories.
const ALIASES: &[(&str, &str)] = &[
    ("Casedletter", "LC"),
    ("Closepunctuation", "Pe"),
    ("Cntrl", "Cc"),
    ("Combiningmark", "M"),
    ("Connectorpunctuation", "Pc"),
    ("Control", "Cc"),
    ("Currencysymbol", "Sc"),
    ("Dashpunctuation", "Pd"),
    ("Decimalnumber", "Nd"),
    ("Digit", "Nd"),
    ("Enclosingmark", "Me"),
    ("Finalpunctuation", "Pf"),
    ("Format", "Cf"),
    ("Initialpunctuation", "Pi"),
    ("Letter", "L"),
    ("Letternumber", "Nl"),
    ("Lineseparator", "Zl"),
    ("Lowercaseletter", "Ll"),
    ("Mark", "M"),
    ("Mathsymbol", "Sm"),
    ("Modifierletter", "Lm"),
    ("Modifiersymbol", "Sk"),
    ("Nonspacingmark", "Mn"),
    ("Number", "N"),
    ("Openpunctuation", "Ps"),
    ("Other", "C"),
    ("Otherletter", "Lo"),
    ("Othernumber", "No"),
    ("Otherpunctuation", "Po"),
    ("Othersymbol", "So"),
    ("Paragraphseparator", "Zp"),
    ("Privateuse", "Co"),
    ("Punct", "P"),
    ("Punctuation", "P"),
    ("Separator", "Z"),
    ("Spaceseparator", "Zs"),
    ("Spacingmark", "Mc"),
    ("Surrogate", "Cs"),
    ("Symbol", "S"),
    ("Titlecaseletter", "Lt"),
    ("Unassigned", "Cn"),
    ("Uppercaseletter", "Lu"),
];

/// The scripts of Unicode 15.0 that Go finds. One whose name has an underscore (`Old_Italic`) it never does: it takes
/// the underscore off what is asked for, and not off the names of its table.
#[rustfmt::skip]
const SCRIPTS: &[&str] = &[
    "Adlam", "Ahom", "Arabic", "Armenian", "Avestan", "Balinese", "Bamum", "Batak", "Bengali", "Bhaiksuki",
    "Bopomofo", "Brahmi", "Braille", "Buginese", "Buhid", "Carian", "Chakma", "Cham", "Cherokee", "Chorasmian",
    "Common", "Coptic", "Cuneiform", "Cypriot", "Cyrillic", "Deseret", "Devanagari", "Dogra", "Duployan",
    "Elbasan", "Elymaic", "Ethiopic", "Georgian", "Glagolitic", "Gothic", "Grantha", "Greek", "Gujarati",
    "Gurmukhi", "Han", "Hangul", "Hanunoo", "Hatran", "Hebrew", "Hiragana", "Inherited", "Javanese", "Kaithi",
    "Kannada", "Katakana", "Kawi", "Kharoshthi", "Khmer", "Khojki", "Khudawadi", "Lao", "Latin", "Lepcha",
    "Limbu", "Lisu", "Lycian", "Lydian", "Mahajani", "Makasar", "Malayalam", "Mandaic", "Manichaean", "Marchen",
    "Medefaidrin", "Miao", "Modi", "Mongolian", "Mro", "Multani", "Myanmar", "Nabataean", "Nandinagari", "Newa",
    "Nko", "Nushu", "Ogham", "Oriya", "Osage", "Osmanya", "Palmyrene", "Phoenician", "Rejang", "Runic",
    "Samaritan", "Saurashtra", "Sharada", "Shavian", "Siddham", "Sinhala", "Sogdian", "Soyombo", "Sundanese",
    "Syriac", "Tagalog", "Tagbanwa", "Takri", "Tamil", "Tangsa", "Tangut", "Telugu", "Thaana", "Thai", "Tibetan",
    "Tifinagh", "Tirhuta", "Toto", "Ugaritic", "Vai", "Vithkuqi", "Wancho", "Yezidi", "Yi",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_class() {
        for name in CATEGORIES.iter().chain(SCRIPTS).chain(ALIASES.iter().map(|(alias, _)| alias)) {
            assert!(unicode(name, false, false).is_some_and(|class| !class.ranges().is_empty()), "{name}");
        }
    }

    #[test]
    fn names_are_found_as_go_finds_them() {
        let is = |name| unicode(name, false, false).is_some();
        assert!(is("greek") && is("G_r-e eK") && is("lu") && is("LU") && is("LC") && is("uppercase letter"));
        assert!(!is("Old_Italic") && !is("OldItalic") && !is("Grek") && !is("Garay") && !is("") && !is("é"));
    }
}
