//! What is known of single models.

/// The models whose thinking is bound to what precedes it, and whether it is bound to the organisation too.
///
/// <https://platform.claude.com/docs/en/build-with-claude/preserved-thinking>
const BOUND: [(&str, bool); 7] = [
    ("claude-fable-5-1", false),
    ("claude-fable-5-2", false),
    ("claude-mythos-5-1", false),
    ("claude-mythos-5-2", false),
    ("claude-opus-5-5", false),
    ("claude-sonnet-5-5", true),
    ("claude-haiku-5-5", true),
];

/// Whether the thinking of this model is bound to what precedes it.
pub(super) fn is_bound(model: &str) -> bool {
    find(model).is_some()
}

/// Whether the thinking of this model is bound to the organisation whose key was used.
pub(super) fn binds_account(model: &str) -> bool {
    find(model).is_some_and(|account| account)
}

fn find(model: &str) -> Option<bool> {
    BOUND.iter().find(|(bound, _)| is_of_family(model, bound)).map(|(_, account)| *account)
}

/// Whether a model is this one, without what platforms put around it: the publisher and the region before it, a date
/// or a version behind it. Some relays write `5.5` for `5-5`.
fn is_of_family(model: &str, family: &str) -> bool {
    const MAKER: &[u8] = b"claude-";
    let start = model.as_bytes().windows(MAKER.len()).position(|bytes| bytes.eq_ignore_ascii_case(MAKER));
    let name = start.and_then(|start| model[start..].split(['@', ':', '[', '/']).next()).unwrap_or_default();
    let Some((name, rest)) = name.split_at_checked(family.len()) else { return false };
    let is_same = |(one, other): (u8, u8)| one.eq_ignore_ascii_case(&other) || (one == b'.' && other == b'-');
    let is_version = |word: &str| word.strip_prefix(['v', 'V']).is_some_and(|number| number.parse::<u8>().is_ok());
    let is_date = |word: &str| word.len() == 8 && word.bytes().all(|byte| byte.is_ascii_digit());
    let is_added = |word: &str| is_version(word) || is_date(word) || word.eq_ignore_ascii_case("latest");
    let mut words = rest.split(['-', '.']);
    name.bytes().zip(family.bytes()).all(is_same) && words.next() == Some("") && words.all(is_added)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_known_under_every_name() {
        for name in [
            "claude-sonnet-5-5",
            "claude-sonnet-5-5-20260901",
            "claude-sonnet-5-5@20260901",
            "claude-sonnet-5-5-latest",
            "claude-sonnet-5-5[1m]",
            "anthropic/claude-sonnet-5.5",
            "us.anthropic.claude-sonnet-5-5-20260901-v1:0",
            "publishers/anthropic/models/claude-sonnet-5-5",
            "Claude-Sonnet-5-5-V2:0",
        ] {
            assert!(is_bound(name) && binds_account(name), "{name}");
        }
        assert!(is_bound("claude-opus-5-5") && !binds_account("claude-opus-5-5"));
        assert!(is_bound("claude-fable-5-1-20260801"));
        for name in [
            "claude-sonnet-5",
            "claude-sonnet-4-5-20250929",
            "claude-opus-5",
            "claude-haiku-4-5",
            "claude-opus-5-55",
            "gpt-5-5",
        ] {
            assert!(!is_bound(name) && !binds_account(name), "{name}");
        }
    }
}
