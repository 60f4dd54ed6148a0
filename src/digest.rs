//! SHA-256, for names that must be the same in every run and for documents that must not have changed; the only door
//! of `sha2`.

use sha2::Digest;

/// The hash of a text, as 64 hexadecimal digits in lower case.
#[must_use]
pub fn sha256(text: &str) -> String {
    sha256_of(&[text])
}

/// The same of several texts, one behind the other.
#[must_use]
pub fn sha256_of(texts: &[&str]) -> String {
    let mut hasher = sha2::Sha256::new();
    for text in texts {
        hasher.update(text.as_bytes());
    }
    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or_default();
    let mut digits = String::with_capacity(64);
    digits.extend(hasher.finalize().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
    digits
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_hash_is_that_of_others() {
        // The empty text, as in every test vector of SHA-256.
        assert_eq!(super::sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
