//! Base64 as lenient readers take it: both alphabets, padded or not.

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The standard alphabet, padded: the form in which the provider writes bytes.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut word = 0_u32;
        for (at, byte) in group.iter().enumerate() {
            word |= u32::from(*byte) << (16 - 8 * at);
        }
        for at in 0..4 {
            if at > group.len() {
                out.push('=');
            } else {
                let six = (word >> (18 - 6 * at)) & 63;
                out.push(char::from(STANDARD[six as usize]));
            }
        }
    }
    out
}

/// The bytes of `text`, or nothing if it is not base64.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    let padding_fits = match digits.len() % 4 {
        0 => padding == 0,
        2 => padding == 0 || padding == 2,
        3 => padding <= 1,
        _ => false,
    };
    if !padding_fits {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    let (mut word, mut bits) = (0_u32, 0_u32);
    for digit in digits.bytes() {
        let six = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        word = (word << 6) | u32::from(six);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((word >> bits) as u8);
            word &= (1 << bits) - 1;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_every_length_in_every_spelling() {
        for length in 0..70_u8 {
            let bytes: Vec<u8> = (0..length).map(|at| at.wrapping_mul(151) ^ 0xfb).collect();
            let text = encode(&bytes);
            let url_safe = text.replace('+', "-").replace('/', "_");
            for spelling in [&text, &url_safe] {
                assert_eq!(decode(spelling).as_ref(), Some(&bytes));
                assert_eq!(decode(spelling.trim_end_matches('=')).as_ref(), Some(&bytes));
            }
        }
    }

    #[test]
    fn refuses_what_is_not_base64() {
        for text in ["a", "abcde", "ab=", "abc==", "abcd=", "ab c", "ab\u{e9}d", "a=bc"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
