//! Refresh tokens: random, and known to the server by a hash alone.
//!
//! The text of one is base64url, without padding, of 16 bytes of sign-in id, 4 bytes of generation (big-endian) and 32 random
//! bytes; then a dot and a mark of the key that signs access tokens. Only the random bytes are hashed, so that a secret can
//! be made before its generation is known. The mark tells an old token, whose hash nobody keeps any more, from a made-up one:
//! the reuse of the former ends the sign-in, and whoever but knows the id of a sign-in must not be able to do that. A good
//! token needs no good mark, so that it outlives a change of the key.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Tokens;
use crate::error::{Error, Result};
use crate::model::SignInId;

const SECRET_BYTES: usize = 32;
const TOKEN_BYTES: usize = 16 + 4 + SECRET_BYTES;
/// The length of a token's text: base64 without padding.
const TOKEN_CHARS: usize = (TOKEN_BYTES * 8).div_ceil(6);

/// The length of a mark's: base64 of HMAC-SHA256.
const MARK_CHARS: usize = 43;

/// The SHA-256 of a refresh token's random bytes. Comparing two takes the same time wherever they differ.
#[derive(Clone, Copy, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The bytes, for the database.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        *self == other.0[..]
    }
}

impl PartialEq<[u8]> for TokenHash {
    fn eq(&self, other: &[u8]) -> bool {
        let differing = self.0.iter().zip(other).fold(0, |bits, (a, b)| std::hint::black_box(bits | (a ^ b)));
        other.len() == self.0.len() && differing == 0
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// The random part of a token to be.
pub struct RefreshSecret([u8; SECRET_BYTES]);

impl RefreshSecret {
    /// A new one, from the system's source of randomness.
    ///
    /// # Errors
    /// `internal` where the system has none.
    pub fn new() -> Result<Self> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret).map_err(|e| Error::Internal(e.into()))?;
        Ok(Self(secret))
    }

    /// What the database keeps of it.
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(&self.0)
    }

    /// The token's text, for the client alone.
    ///
    /// # Errors
    /// `internal` where it cannot be marked.
    pub fn into_token(self, sign_in: SignInId, generation: u32, tokens: &Tokens) -> Result<String> {
        let mut token = Vec::with_capacity(TOKEN_BYTES);
        token.extend_from_slice(sign_in.0.as_bytes());
        token.extend_from_slice(&generation.to_be_bytes());
        token.extend_from_slice(&self.0);
        let token = BASE64_URL_SAFE_NO_PAD.encode(token);
        let mark = tokens.mark(&token)?;
        Ok(format!("{token}.{mark}"))
    }
}

impl fmt::Debug for RefreshSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshSecret(…)")
    }
}

/// A token that a client presents. That its form is right says nothing about whether it is good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RefreshToken {
    /// The sign-in that it claims to belong to.
    pub sign_in: SignInId,
    /// Which of the sign-in's tokens it claims to be.
    pub generation: u32,
    /// The hash of its random bytes.
    pub hash: TokenHash,
    /// Whether it was issued for certain, good or not: its mark is of a key that is still known.
    pub issued: bool,
}

impl RefreshToken {
    /// Takes a token apart.
    ///
    /// # Errors
    /// `unauthenticated` for whatever does not have the form of one.
    pub fn parse(text: &str, tokens: &Tokens) -> Result<Self> {
        let (token, mark) = text.split_once('.').ok_or(Error::Unauthenticated)?;
        if token.len() != TOKEN_CHARS || mark.len() != MARK_CHARS {
            return Err(Error::Unauthenticated);
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|_| Error::Unauthenticated)?;
        let (sign_in, rest) = bytes.split_first_chunk::<16>().ok_or(Error::Unauthenticated)?;
        let (generation, secret) = rest.split_first_chunk::<4>().ok_or(Error::Unauthenticated)?;
        Ok(Self {
            sign_in: SignInId(Uuid::from_bytes(*sign_in)),
            generation: u32::from_be_bytes(*generation),
            hash: TokenHash::of(secret),
            issued: tokens.is_mark(mark, token),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn tokens(current: &[u8], previous: Option<&[u8]>) -> Tokens {
        Tokens::new(current, previous, Duration::from_secs(1))
    }

    #[test]
    fn a_token_tells_where_it_belongs_and_what_it_hashes_to() {
        let (secret, sign_in) = (RefreshSecret::new().unwrap(), SignInId::new());
        let hash = secret.hash();
        let tokens = tokens(&[1; 32], None);
        let text = secret.into_token(sign_in, 7, &tokens).unwrap();
        assert_eq!(text.len(), 114);
        let parsed = RefreshToken::parse(&text, &tokens).unwrap();
        assert_eq!(parsed, RefreshToken { sign_in, generation: 7, hash, issued: true });
    }

    #[test]
    fn what_was_issued_is_told_from_what_was_made_up() {
        let (old, new) = (tokens(&[1; 32], None), tokens(&[2; 32], Some(&[1; 32])));
        let newest = tokens(&[2; 32], None);
        let (one, two) = (SignInId::new(), SignInId::new());
        let token = |sign_in| RefreshSecret::new().unwrap().into_token(sign_in, 0, &old).unwrap();
        let (one, two) = (token(one), token(two));
        let is_issued = |text: &str, tokens: &Tokens| RefreshToken::parse(text, tokens).unwrap().issued;
        assert!(is_issued(&one, &old) && is_issued(&one, &new));
        assert!(!is_issued(&one, &newest), "the key is gone");
        let swapped = format!("{}.{}", &one[..TOKEN_CHARS], &two[TOKEN_CHARS + 1..]);
        assert!(!is_issued(&swapped, &old), "the mark of another token");
    }

    #[test]
    fn what_has_not_the_form_of_a_token_is_unauthenticated() {
        let tokens = tokens(&[1; 32], None);
        let good = RefreshSecret::new().unwrap().into_token(SignInId::new(), 0, &tokens).unwrap();
        let standard_alphabet = format!("+/{}", &good[2..]);
        let unmarked = &good[..TOKEN_CHARS];
        for bad in ["", "a.b.c", &good[1..], &format!("{good}="), &format!("{good}A"), &standard_alphabet, unmarked] {
            assert!(matches!(RefreshToken::parse(bad, &tokens), Err(Error::Unauthenticated)), "{bad}");
        }
    }

    #[test]
    fn secrets_differ_and_hashes_compare_whole() {
        let (one, two) = (RefreshSecret::new().unwrap().hash(), RefreshSecret::new().unwrap().hash());
        assert!(one == one && one != two);
        assert!(one == one.as_bytes()[..]);
        assert!(one != one.as_bytes()[..31], "a shorter one that agrees as far as it goes");
    }

    #[test]
    fn nothing_secret_is_printed() {
        let secret = RefreshSecret::new().unwrap();
        assert_eq!(format!("{secret:?} {:?}", secret.hash()), "RefreshSecret(…) TokenHash(…)");
    }
}
