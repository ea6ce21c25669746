use super::*;

fn matches(pattern: &str, node: &str) -> bool {
    Pattern::parse(pattern).unwrap().matches(&NodeName::parse(node).unwrap())
}

#[test]
fn a_pattern_is_searched_anywhere() {
    assert!(matches("db", "prod-db@host"));
    assert!(matches("^prod-", "prod-db@host"));
    assert!(!matches("^db", "prod-db@host"));
    assert!(matches(r"@partner\.example$", "x@partner.example"));
    assert!(!matches(r"@partner\.example$", "x@partnerXexample"));
}
