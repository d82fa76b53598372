//! JSON Web Tokens signed with ES256 (RFC 7515, RFC 7518 3.4), and nothing more of them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};
use serde_json::{Value, json};
use thiserror::Error;

/// Signs and checks tokens.
pub(crate) struct Signer {
    key: EcdsaKeyPair,
    key_id: String,
    random: SystemRandom,
}

/// The signing key cannot be used.
#[derive(Debug, Error)]
#[error("the key that signs ServiceAccount tokens is not ECDSA on P-256 (PKCS #8): {0}")]
pub struct KeyError(ring::error::KeyRejected);

impl Signer {
    /// With this key, PKCS #8 DER.
    pub(crate) fn new(pkcs8: &[u8]) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random)
            .map_err(KeyError)?;
        let key_id = URL_SAFE_NO_PAD.encode(digest(&SHA256, key.public_key().as_ref()));
        Ok(Self { key, key_id, random })
    }

    /// The public half, as a JSON Web Key (RFC 7517, RFC 7518 6.2.1).
    pub(crate) fn public_key(&self) -> Value {
        // An uncompressed point: one byte of format, then both coordinates.
        let point = self.key.public_key().as_ref();
        let (x, y) = point.get(1..).unwrap_or_default().split_at(point.len() / 2);
        json!({
            "use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        })
    }

    /// A token with these claims; `None` when the system has no randomness.
    pub(crate) fn sign(&self, claims: &Value) -> Option<String> {
        let header = json!({ "alg": "ES256", "kid": self.key_id });
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let signature = self.key.sign(&self.random, signed.as_bytes()).ok()?;
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The claims of a token that this key has signed.
    pub(crate) fn verify(&self, token: &str) -> Option<Value> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        if decode(header)?.get("alg")? != "ES256" {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref())
            .verify(signed.as_bytes(), &signature)
            .ok()?;
        decode(claims)
    }
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn decode(text: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> Signer {
        let key =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        Signer::new(key.unwrap().as_ref()).unwrap()
    }

    #[test]
    fn only_the_own_key_s_tokens_are_believed() {
        let (own, other) = (signer(), signer());
        let claims = json!({ "sub": "me" });
        let token = own.sign(&claims).unwrap();
        assert_eq!(own.verify(&token), Some(claims));
        assert_eq!(other.verify(&token), None);
    }

    #[test]
    fn a_changed_token_is_not_believed() {
        let own = signer();
        let token = own.sign(&json!({ "sub": "me" })).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let forged = encode(&json!({ "sub": "admin" }));
        assert_eq!(own.verify(&format!("{}.{forged}.{}", parts[0], parts[2])), None);
        let none = encode(&json!({ "alg": "none" }));
        assert_eq!(own.verify(&format!("{none}.{}.", parts[1])), None);
        for noise in ["", ".", "..", "a.b.c", "a.b"] {
            assert_eq!(own.verify(noise), None, "{noise}");
        }
    }
}
