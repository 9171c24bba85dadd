//! Opaque values in base64, compared by what they decode to.
//!
//! Clients and relays write the same value in either alphabet, with or without padding. Both
//! alphabets may be mixed here, ASCII whitespace is ignored, and so are the bits of the last symbol
//! that stand for no whole byte. Text that is not base64 stands for itself.

/// Whether two texts stand for the same value.
///
/// # Examples
///
/// ```
/// use tower_reasoning_replay::wire::base64::same_value;
///
/// assert!(same_value(b"+/+/+w==", b"-_-_-w"));
/// assert!(!same_value(b"+/+/+w==", b"+/+/"));
/// ```
#[must_use]
pub fn same_value(a: &[u8], b: &[u8]) -> bool {
    if a == b {
        return true;
    }
    let (Some(a_len), Some(b_len)) = (symbols(a), symbols(b)) else {
        return false;
    };
    if a_len != b_len {
        return false;
    }
    let values = |text| unpadded(text).iter().filter_map(|&byte| value(byte));
    let mut left = a_len;
    for (a, b) in values(a).zip(values(b)) {
        left -= 1;
        let spare = if left == 0 { spare_bits(a_len) } else { 0 };
        if a >> spare != b >> spare {
            return false;
        }
    }
    true
}

/// Hands one form of the text to `sink`, piece by piece: in the standard alphabet, without padding
/// at its end and without ASCII whitespace.
///
/// Texts with [the same value](same_value) have the same form: in base64 the unused bits of the
/// last symbol are cleared. The form of a text that is not base64 may be that of another; it serves
/// to look a value up, not to prove it equal.
pub fn normalized(text: &[u8], sink: &mut impl FnMut(&[u8])) {
    let spare = symbols(text).map_or(0, spare_bits);
    let mut text = unpadded(text);
    let mut last = [0];
    if spare > 0
        && let Some((symbol, rest)) = text.split_last()
        && let Some(value) = value(*symbol)
    {
        last[0] = SYMBOLS[usize::from(value >> spare << spare)];
        text = rest;
    }
    let mut buffer = [0; 256];
    for chunk in text.chunks(buffer.len()) {
        // Without a branch in it, this becomes a vector loop.
        let plain = chunk.iter().fold(true, |plain, &byte| plain & (byte > b' ') & (byte != b'-') & (byte != b'_'));
        if plain {
            sink(chunk);
            continue;
        }
        let mut filled = 0;
        for &byte in chunk {
            buffer[filled] = match byte {
                b'-' => b'+',
                b'_' => b'/',
                other => other,
            };
            filled += usize::from(!byte.is_ascii_whitespace());
        }
        if filled > 0 {
            sink(&buffer[..filled]);
        }
    }
    if last[0] != 0 {
        sink(&last);
    }
}

const SYMBOLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

const NO_SYMBOL: u8 = 0xff;

/// The value of each byte in either alphabet.
const VALUES: [u8; 256] = {
    let mut values = [NO_SYMBOL; 256];
    let mut value = 0;
    while value < 64 {
        values[SYMBOLS[value] as usize] = value as u8;
        value += 1;
    }
    values[b'-' as usize] = 62;
    values[b'_' as usize] = 63;
    values
};

fn value(byte: u8) -> Option<u8> {
    let value = VALUES[usize::from(byte)];
    (value != NO_SYMBOL).then_some(value)
}

/// The number of symbols, if the text is base64.
fn symbols(text: &[u8]) -> Option<usize> {
    let data = unpadded(text);
    let mut count = 0;
    for &byte in data {
        if value(byte).is_some() {
            count += 1;
        } else if !byte.is_ascii_whitespace() {
            return None;
        }
    }
    let padding = text[data.len()..].iter().filter(|&&byte| byte == b'=').count();
    match (count % 4, padding) {
        (_, 0) | (2, 2) | (3, 1) => (count % 4 != 1).then_some(count),
        _ => None,
    }
}

/// How many bits of the last symbol belong to no byte.
fn spare_bits(symbols: usize) -> u32 {
    match symbols % 4 {
        2 => 4,
        3 => 2,
        _ => 0,
    }
}

fn unpadded(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|&byte| byte != b'=' && !byte.is_ascii_whitespace()).map_or(0, |last| last + 1);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn form(text: &[u8]) -> Vec<u8> {
        let mut form = Vec::new();
        normalized(text, &mut |piece| form.extend_from_slice(piece));
        form
    }

    fn encode(bytes: &[u8], url: bool, padded: bool, spare: u8) -> Vec<u8> {
        let mut text = Vec::new();
        for group in bytes.chunks(3) {
            let mut word = [0; 3];
            word[..group.len()].copy_from_slice(group);
            let bits = u32::from_be_bytes([0, word[0], word[1], word[2]]);
            let mut symbols: Vec<u8> = (0..=group.len()).map(|i| (bits >> (18 - 6 * i) & 63) as u8).collect();
            let unused = spare_bits(symbols.len());
            if let Some(last) = symbols.last_mut() {
                *last |= spare & ((1 << unused) - 1);
            }
            for symbol in symbols {
                text.push(match SYMBOLS[usize::from(symbol)] {
                    b'+' if url => b'-',
                    b'/' if url => b'_',
                    other => other,
                });
            }
            if padded {
                text.resize(text.len().next_multiple_of(4), b'=');
            }
        }
        text
    }

    #[test]
    fn alphabets_and_padding_do_not_matter() {
        assert!(same_value(b"", b""));
        assert!(same_value(b"ab-_", b"ab+/"));
        assert!(same_value(b"YQ==", b"YQ"));
        assert!(same_value(b"YQ==", b"YR"), "the last four bits belong to no byte");
        assert!(!same_value(b"YQ==", b"Yg=="));
        assert!(!same_value(b"YWE=", b"YQ=="));
        assert!(same_value(b"YW\r\nJj", b"YWJj"));
    }

    #[test]
    fn other_text_is_compared_as_it_is() {
        assert!(same_value(b"rsn_a.b", b"rsn_a.b"));
        assert!(!same_value(b"rsn_a.b", b"rsn/a.b"));
        assert!(!same_value(b"abcde", b"abcde="), "five symbols are no base64");
        assert!(!same_value(b"ab=c", b"abc"));
        assert!(!same_value(b"YQ=", b"YQ"));
    }

    #[test]
    fn normalizes_without_judging() {
        assert_eq!(form(b"a-b_c=="), b"a+b/c");
        assert_eq!(form(b" a\nb\t= =\n"), b"aQ", "b stands for one whole byte only");
        assert_eq!(form(b"===="), b"");
        assert_eq!(form(&[b'-'; 700]), [b'+'; 700]);
    }

    proptest! {
        #[test]
        fn every_way_to_write_a_value_is_the_same(
            bytes: Vec<u8>, other: Vec<u8>, style: [(bool, bool, u8); 2],
        ) {
            let [a, b] = style.map(|(url, padded, spare)| encode(&bytes, url, padded, spare));
            prop_assert!(same_value(&a, &b));
            prop_assert_eq!(form(&a), form(&b));
            let other_text = encode(&other, style[0].0, style[0].1, style[0].2);
            prop_assert_eq!(same_value(&a, &other_text), bytes == other);
            prop_assert_eq!(form(&a) == form(&other_text), bytes == other);
        }

        #[test]
        fn the_same_value_has_the_same_form(a in "[aQ+/_=\n -]{0,6}", b in "[aQ+/_=\n -]{0,6}") {
            let (a, b) = (a.as_bytes(), b.as_bytes());
            prop_assert_eq!(same_value(a, b), same_value(b, a));
            if same_value(a, b) {
                prop_assert_eq!(form(a), form(b));
            }
        }
    }
}
