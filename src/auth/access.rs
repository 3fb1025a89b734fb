//! Access tokens: JWTs that carry who is asking, signed with a key that only the nodes know.

use std::fmt;
use std::time::Duration;

use jsonwebtoken::crypto::{sign, verify};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::model::{SignInId, TimeMs, User, UserId, UserName};

/// Who makes the tokens, and for whom.
const BURBLE: &str = "burble";
/// The one accepted algorithm.
const ALGORITHM: Algorithm = Algorithm::HS256;
/// A longer text is none of our tokens, and is not looked at.
const TOKEN_BYTES_MAX: usize = 4_096;

/// What a good access token says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claims {
    /// The user.
    pub user: UserId,
    /// Their name.
    pub name: UserName,
    /// The sign-in that the token belongs to.
    pub sign_in: SignInId,
    /// The pair of tokens of that sign-in that it belongs to.
    pub generation: u32,
    /// When it runs out.
    pub expires_at: TimeMs,
}

/// Makes and checks access tokens.
pub struct Tokens {
    current: Key,
    /// Still accepted during a rotation, and no longer used to sign.
    previous: Option<Key>,
    header: Header,
    validation: Validation,
    lifetime_s: i64,
}

impl Tokens {
    /// For tokens that live as long as `lifetime`, counted in whole seconds. Keys have at least 32 bytes; who reads the settings
    /// sees to it.
    pub fn new(current: &[u8], previous: Option<&[u8]>, lifetime: Duration) -> Self {
        let current = Key::new(current);
        let mut validation = Validation::new(ALGORITHM);
        validation.set_issuer(&[BURBLE]);
        validation.set_audience(&[BURBLE]);
        validation.set_required_spec_claims(&["iss", "aud", "sub"]);
        // Its own check would ask the wall clock; ours is in `verify`.
        validation.validate_exp = false;
        Self {
            header: Header { kid: Some(current.id.clone()), ..Header::new(ALGORITHM) },
            current,
            previous: previous.map(Key::new),
            validation,
            lifetime_s: i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX),
        }
    }

    /// A token, and when it runs out.
    ///
    /// # Errors
    /// `internal` where it cannot be signed.
    pub fn issue(&self, user: &User, sign_in: SignInId, generation: u32, now: TimeMs) -> Result<(String, TimeMs)> {
        let iat = now.div_euclid(1_000).max(0);
        let exp = iat.saturating_add(self.lifetime_s).min(TimeMs::MAX / 1_000);
        let wire = Wire {
            iss: BURBLE.into(),
            aud: BURBLE.into(),
            sub: user.id,
            name: user.name.clone(),
            sid: sign_in,
            generation,
            iat: iat.unsigned_abs(),
            exp: exp.unsigned_abs(),
        };
        let token = encode(&self.header, &wire, &self.current.encoding).map_err(|e| Error::Internal(e.into()))?;
        Ok((token, exp * 1_000))
    }

    /// What a token says, where one of our keys signed it and it has not run out.
    ///
    /// # Errors
    /// `token_expired` where its time is all that is wrong with it, else `unauthenticated`.
    pub fn verify(&self, token: &str, now: TimeMs) -> Result<Claims> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Error::Unauthenticated);
        }
        // Nobody has vouched for the header yet: it only picks the key that has to.
        let kid = decode_header(token).ok().and_then(|header| header.kid).ok_or(Error::Unauthenticated)?;
        let key = self.key(&kid).ok_or(Error::Unauthenticated)?;
        let wire = decode::<Wire>(token, &key.decoding, &self.validation).map_err(|_| Error::Unauthenticated)?.claims;
        let expires_at =
            i64::try_from(wire.exp).ok().and_then(|s| s.checked_mul(1_000)).ok_or(Error::Unauthenticated)?;
        if expires_at <= now {
            return Err(Error::TokenExpired);
        }
        Ok(Claims { user: wire.sub, name: wire.name, sign_in: wire.sid, generation: wire.generation, expires_at })
    }

    /// Shows that a refresh token is one of ours. What is signed has a space, so it is never taken for an access token.
    pub(super) fn mark(&self, refresh: &str) -> Result<String> {
        sign(marked(refresh).as_bytes(), &self.current.encoding, ALGORITHM).map_err(|e| Error::Internal(e.into()))
    }

    /// Whether one of our keys made the mark.
    pub(super) fn is_mark(&self, mark: &str, refresh: &str) -> bool {
        let made_it =
            |key: &Key| verify(mark, marked(refresh).as_bytes(), &key.decoding, ALGORITHM).is_ok_and(|good| good);
        self.keys().any(made_it)
    }

    fn key(&self, id: &str) -> Option<&Key> {
        self.keys().find(|key| key.id == id)
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        [Some(&self.current), self.previous.as_ref()].into_iter().flatten()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("kid", &self.current.id).finish_non_exhaustive()
    }
}

fn marked(refresh: &str) -> String {
    format!("burble refresh {refresh}")
}

struct Key {
    /// The first 8 hex digits of the key's SHA-256.
    id: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
}

impl Key {
    fn new(key: &[u8]) -> Self {
        let id = Sha256::digest(key)[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { id, encoding: EncodingKey::from_secret(key), decoding: DecodingKey::from_secret(key) }
    }
}

/// The claims as they stand in a token. Times are whole seconds; anything else does not parse.
#[derive(Serialize, Deserialize)]
struct Wire {
    iss: String,
    aud: String,
    #[serde(with = "id")]
    sub: UserId,
    name: UserName,
    #[serde(with = "id")]
    sid: SignInId,
    #[serde(rename = "gen")]
    generation: u32,
    iat: u64,
    exp: u64,
}

/// Ids as the text that they print.
mod id {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(id: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, T: FromStr>(deserializer: D) -> Result<T, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(|_| D::Error::custom("no id"))
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;

    const KEY: &[u8] = b"a key of at least thirty-two bytes";
    const OTHER: &[u8] = b"another key of at least 32 bytes..";
    const NOW: TimeMs = 1_763_923_812_345;
    const LIFETIME: Duration = Duration::from_secs(900);

    fn tokens() -> Tokens {
        Tokens::new(KEY, None, LIFETIME)
    }

    fn ann() -> User {
        User { id: UserId::new(), name: "ann".parse().unwrap(), created_at: NOW }
    }

    fn good() -> Value {
        json!({
            "iss": "burble", "aud": "burble", "sub": UserId::new().to_string(), "name": "ann",
            "sid": SignInId::new().to_string(), "gen": 0, "iat": NOW / 1_000, "exp": NOW / 1_000 + 900,
        })
    }

    fn signed(claims: &Value, algorithm: Algorithm, key: &[u8], kid: Option<String>) -> String {
        encode(&Header { kid, ..Header::new(algorithm) }, claims, &EncodingKey::from_secret(key)).unwrap()
    }

    fn verify(claims: &Value) -> Result<Claims> {
        tokens().verify(&signed(claims, ALGORITHM, KEY, Some(Key::new(KEY).id)), NOW)
    }

    fn is_unauthenticated(token: &str) -> bool {
        matches!(tokens().verify(token, NOW), Err(Error::Unauthenticated))
    }

    #[test]
    fn a_token_says_who_is_asking_until_it_runs_out() {
        let (tokens, ann, sign_in) = (tokens(), ann(), SignInId::new());
        let (token, expires_at) = tokens.issue(&ann, sign_in, 3, NOW).unwrap();
        assert_eq!(expires_at, 1_763_924_712_000);
        let claims = Claims { user: ann.id, name: ann.name, sign_in, generation: 3, expires_at };
        assert_eq!(tokens.verify(&token, expires_at - 1).unwrap(), claims);
        assert!(matches!(tokens.verify(&token, expires_at), Err(Error::TokenExpired)));
    }

    #[test]
    fn the_key_before_is_accepted_during_a_rotation() {
        let (token, _) = Tokens::new(OTHER, None, LIFETIME).issue(&ann(), SignInId::new(), 0, NOW).unwrap();
        assert!(Tokens::new(KEY, Some(OTHER), LIFETIME).verify(&token, NOW).is_ok());
        assert!(is_unauthenticated(&token));
    }

    #[test]
    fn only_our_algorithm_and_keys_are_accepted() {
        let (claims, kid) = (good(), Some(Key::new(KEY).id));
        assert!(verify(&claims).is_ok());
        assert!(is_unauthenticated(&signed(&claims, Algorithm::HS384, KEY, kid.clone())));
        assert!(is_unauthenticated(&signed(&claims, ALGORITHM, OTHER, kid.clone())), "another key under our id");
        assert!(is_unauthenticated(&signed(&claims, ALGORITHM, KEY, None)), "no key id");
        assert!(is_unauthenticated(&signed(&claims, ALGORITHM, KEY, Some("00000000".into()))), "an unknown key id");
        let part = |json: Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
        for alg in ["none", "None", "HS256"] {
            let header = part(json!({ "alg": alg, "typ": "JWT", "kid": kid }));
            assert!(is_unauthenticated(&format!("{header}.{}.", part(claims.clone()))), "{alg}, unsigned");
        }
    }

    #[test]
    fn a_changed_token_is_unauthenticated() {
        let (token, _) = tokens().issue(&ann(), SignInId::new(), 0, NOW).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let claims = BASE64_URL_SAFE_NO_PAD.decode(parts[1]).unwrap();
        let changed = String::from_utf8(claims).unwrap().replace("ann", "bob");
        let changed = BASE64_URL_SAFE_NO_PAD.encode(changed);
        assert!(is_unauthenticated(&format!("{}.{changed}.{}", parts[0], parts[2])));
        for bad in ["", ".", "..", "a.b.c", &token[1..], &format!("{token}."), &token[..token.len() - 1]] {
            assert!(is_unauthenticated(bad), "{bad}");
        }
    }

    #[test]
    fn a_malformed_claim_is_unauthenticated() {
        let (name, seconds) = ("x".repeat(33), NOW / 1_000 + 900);
        for (claim, value) in [
            ("exp", json!(seconds.to_string())),
            ("exp", json!(seconds as f64)),
            ("exp", json!(-1)),
            ("exp", json!(u64::MAX)),
            ("exp", Value::Null),
            ("iat", json!("now")),
            ("sub", json!("ann")),
            ("sub", json!(1)),
            ("sid", json!("")),
            ("gen", json!(-1)),
            ("name", json!(name)),
            ("iss", json!("another")),
            ("iss", Value::Null),
            ("aud", json!("another")),
            ("aud", json!([])),
        ] {
            let mut claims = good();
            claims[claim] = value;
            assert!(matches!(verify(&claims), Err(Error::Unauthenticated)), "{claims}");
        }
        for claim in ["exp", "iat", "sub", "sid", "gen", "name", "iss", "aud"] {
            let mut claims = good();
            claims.as_object_mut().unwrap().remove(claim);
            assert!(matches!(verify(&claims), Err(Error::Unauthenticated)), "without {claim}");
        }
    }

    #[test]
    fn a_token_is_called_expired_only_where_all_else_is_right() {
        let mut claims = good();
        claims["exp"] = json!(NOW / 1_000);
        assert!(matches!(verify(&claims), Err(Error::TokenExpired)));
        claims["aud"] = json!("another");
        assert!(matches!(verify(&claims), Err(Error::Unauthenticated)));
    }

    #[test]
    fn a_refresh_token_is_no_access_token() {
        let refresh = crate::auth::RefreshSecret::new().unwrap().into_token(SignInId::new(), 0, &tokens()).unwrap();
        assert!(is_unauthenticated(&refresh));
    }

    #[test]
    fn no_key_is_printed() {
        assert_eq!(format!("{:?}", tokens()), format!("Tokens {{ kid: {:?}, .. }}", Key::new(KEY).id));
    }
}
