//! Stored hashes of passwords in the forms that the password file holds, and the comparison of a password with one.
//! Invariants: the cost of a hash is bounded when it is read, so that no line of the file can hold a thread for long.
//! Secrets are compared in a time that does not depend on them, and no `Debug` shows a hash.

use std::fmt::{self, Write as _};
use std::num::NonZeroU32;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use crypto::{digest, hmac, pbkdf2};
use subtle::ConstantTimeEq as _;

use super::prepared::prepare_password;

/// Memory of one argon2 hash at most, in KiB.
pub(crate) const ARGON2_KIB_MAX: u32 = 65_536;
/// Passes over that memory at most.
const ARGON2_PASSES_MAX: u32 = 10;
/// Lanes at most. They are computed one after the other, so more of them cost nothing.
const ARGON2_LANES_MAX: u32 = 16;
/// Iterations of PBKDF2 at most.
const ITERATIONS_MAX: u32 = 1_000_000;

/// The argon2id that is written: OWASP's smallest memory, 17 ms of one core.
const WRITTEN_KIB: u32 = 19_456;
const WRITTEN_PASSES: u32 = 2;
const WRITTEN_LANES: u32 = 1;
/// Iterations of a SCRAM verifier that is written: RFC 7677's smallest number, since the client computes them as well.
const WRITTEN_SCRAM_ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("a literal above zero");
const WRITTEN_SALT_BYTES: usize = 16;
const WRITTEN_OUTPUT_BYTES: usize = 32;

/// Iterations of `$7$` below which a hash is named weak: OWASP's number for HMAC-SHA512.
const WEAK_ITERATIONS: u32 = 210_000;

/// Bytes of a salt or hash at most, and at least.
const SALT_BYTES: std::ops::RangeInclusive<usize> = 1..=64;
const OUTPUT_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

const ARGON2ID: &str = "$argon2id$";
const PBKDF2_SHA512: &str = "$7$";
const SHA512: &str = "$6$";
const DEVICE_KEY: &str = "$device$";
const SCRAM: &str = "SCRAM-SHA-256$";

/// mosquitto pads its base64, and argon2's form does not; both are read.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const BASE64_BARE: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A stored hash of one user's password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum StoredHash {
    /// `$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH`.
    Argon2id(Argon2id),
    /// mosquitto's `$7$ITERATIONS$SALT$HASH`: PBKDF2 of HMAC-SHA512.
    Pbkdf2Sha512 {
        /// Iterations.
        iterations: NonZeroU32,
        /// Salt and hash.
        salted: Salted,
    },
    /// mosquitto's `$6$SALT$HASH`: one SHA-512 of password and salt.
    Sha512(Salted),
    /// `$device$HASH`: one SHA-256, which is enough for a password of 160 random bits.
    DeviceKey([u8; 32]),
    /// `SCRAM-SHA-256$ITERATIONS:SALT$STORED_KEY:SERVER_KEY` as `PostgreSQL` writes it, after RFC 5803.
    Scram(ScramVerifier),
}

/// The parameters of argon2id and its result.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Argon2id {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salted: Salted,
}

/// A salt and the hash that it gave.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Salted {
    salt: Box<[u8]>,
    output: Box<[u8]>,
}

/// The server's part of SCRAM-SHA-256: it proves a password and cannot be used to log in elsewhere [RFC 5802, section 3].
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ScramVerifier {
    /// Iterations of PBKDF2.
    pub(crate) iterations: NonZeroU32,
    /// Salt of the user.
    pub(crate) salt: Box<[u8]>,
    /// SHA-256 of the client's key.
    pub(crate) stored_key: [u8; 32],
    /// The key with which the server signs.
    pub(crate) server_key: [u8; 32],
}

/// A hash that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HashFault {
    /// No form that is known, such as a password in plain text.
    UnknownForm,
    /// A known form that is damaged.
    Malformed,
    /// Parameters that would take too much time or memory.
    TooCostly,
}

impl HashFault {
    /// All of them, for the test that provokes each.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 3] = [Self::UnknownForm, Self::Malformed, Self::TooCostly];
}

impl fmt::Display for HashFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownForm => f.write_str(
                "the password has no known form: it must begin with $argon2id$, $7$, $6$, $device$ or SCRAM-SHA-256$, \
                 as `mqtt-broker user passwd` or mosquitto_passwd writes it",
            ),
            Self::Malformed => f.write_str("the hash is damaged; set the password again with `mqtt-broker user passwd`"),
            Self::TooCostly => write!(
                f,
                "the hash takes more than {ARGON2_KIB_MAX} KiB, {ARGON2_PASSES_MAX} passes or {ITERATIONS_MAX} iterations; set \
                 the password again with `mqtt-broker user passwd`"
            ),
        }
    }
}

/// Memory for argon2, kept by a thread that hashes, so that it is allocated once.
#[derive(Default)]
pub(crate) struct HashMemory {
    blocks: Vec<Block>,
}

impl HashMemory {
    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.blocks.capacity() * size_of::<Block>()
    }
}

impl fmt::Debug for HashMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HashMemory({} KiB)", self.blocks.len())
    }
}

impl StoredHash {
    /// Bytes that it takes beside its own struct.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Argon2id(Argon2id { salted, .. })
            | Self::Pbkdf2Sha512 { salted, .. }
            | Self::Sha512(salted) => salted.salt.len() + salted.output.len(),
            Self::DeviceKey(_) => 0,
            Self::Scram(verifier) => verifier.salt.len(),
        }
    }

    /// Reads the text behind the user name in a line of the password file.
    ///
    /// # Errors
    /// If it has no known form, is damaged, or asks for too much work.
    pub(crate) fn parse(text: &str) -> Result<Self, HashFault> {
        if let Some(rest) = text.strip_prefix(ARGON2ID) {
            Argon2id::parse(rest).map(Self::Argon2id)
        } else if let Some(rest) = text.strip_prefix(PBKDF2_SHA512) {
            let (iterations, rest) = rest.split_once('$').ok_or(HashFault::Malformed)?;
            Ok(Self::Pbkdf2Sha512 { iterations: parse_iterations(iterations)?, salted: Salted::parse(rest)? })
        } else if let Some(rest) = text.strip_prefix(SHA512) {
            let salted = Salted::parse(rest)?;
            if salted.output.len() == 64 { Ok(Self::Sha512(salted)) } else { Err(HashFault::Malformed) }
        } else if let Some(rest) = text.strip_prefix(DEVICE_KEY) {
            decode_array(rest).map(Self::DeviceKey)
        } else if let Some(rest) = text.strip_prefix(SCRAM) {
            ScramVerifier::parse(rest).map(Self::Scram)
        } else {
            Err(HashFault::UnknownForm)
        }
    }

    /// A new argon2id hash of `password`.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub(crate) fn argon2id(password: &[u8], memory: &mut HashMemory) -> Result<Self, getrandom::Error> {
        let salted = Salted { salt: random_salt()?, output: vec![0; WRITTEN_OUTPUT_BYTES].into() };
        let mut hash =
            Argon2id { memory_kib: WRITTEN_KIB, passes: WRITTEN_PASSES, lanes: WRITTEN_LANES, salted };
        hash.salted.output = hash.compute(password, memory);
        Ok(Self::Argon2id(hash))
    }

    /// A new SCRAM verifier of `password`.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub(crate) fn scram(password: &[u8]) -> Result<Self, getrandom::Error> {
        let salt = random_salt()?;
        Ok(Self::Scram(ScramVerifier::compute(password, salt, WRITTEN_SCRAM_ITERATIONS)))
    }

    /// The hash of a device key.
    pub(crate) fn device_key(key: &[u8]) -> Self {
        Self::DeviceKey(sha256(key))
    }

    /// True if `password` is the one of this hash. Takes 17 ms for an argon2id hash that is written here, and up to 0.7 s for the
    /// costliest that is read.
    pub(crate) fn verify(&self, password: &[u8], memory: &mut HashMemory) -> bool {
        match self {
            Self::Argon2id(hash) => hash.compute(password, memory).ct_eq(&hash.salted.output).into(),
            Self::Pbkdf2Sha512 { iterations, salted } => {
                let mut output = vec![0; salted.output.len()];
                pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, *iterations, &salted.salt, password, &mut output);
                output.ct_eq(&salted.output).into()
            }
            Self::Sha512(salted) => {
                let mut context = digest::Context::new(&digest::SHA512);
                context.update(password);
                context.update(&salted.salt);
                context.finish().as_ref().ct_eq(&salted.output).into()
            }
            Self::DeviceKey(expected) => sha256(password).ct_eq(expected).into(),
            Self::Scram(verifier) => {
                let own = ScramVerifier::compute(password, verifier.salt.clone(), verifier.iterations);
                own.stored_key.ct_eq(&verifier.stored_key).into()
            }
        }
    }

    /// True if the comparison takes microseconds, so that a shard may do it.
    pub(crate) fn is_cheap(&self) -> bool {
        match self {
            Self::Sha512(_) | Self::DeviceKey(_) => true,
            Self::Argon2id(_) | Self::Pbkdf2Sha512 { .. } | Self::Scram(_) => false,
        }
    }

    /// The time of a comparison, roughly in microseconds.
    pub(crate) fn cost(&self) -> u64 {
        match self {
            Self::Argon2id(hash) => u64::from(hash.memory_kib) * u64::from(hash.passes) / 2,
            Self::Pbkdf2Sha512 { iterations, .. } => u64::from(iterations.get()),
            Self::Scram(verifier) => u64::from(verifier.iterations.get()) / 2,
            Self::Sha512(_) | Self::DeviceKey(_) => 0,
        }
    }

    /// True if whoever reads the file can try passwords so fast that most are found.
    pub(crate) fn is_weak(&self) -> bool {
        match self {
            Self::Sha512(_) => true,
            Self::Pbkdf2Sha512 { iterations, .. } => iterations.get() < WEAK_ITERATIONS,
            Self::Argon2id(_) | Self::DeviceKey(_) | Self::Scram(_) => false,
        }
    }

    /// The kind of the hash, for people.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Argon2id(_) => "argon2id",
            Self::Pbkdf2Sha512 { .. } => "PBKDF2-SHA512",
            Self::Sha512(_) => "SHA-512",
            Self::DeviceKey(_) => "device key",
            Self::Scram(_) => "SCRAM-SHA-256",
        }
    }

    /// The text that [`StoredHash::parse`] reads.
    pub(crate) fn to_line(&self) -> String {
        let mut text = String::new();
        let written = match self {
            Self::Argon2id(Argon2id { memory_kib, passes, lanes, salted }) => write!(
                text,
                "{ARGON2ID}v=19$m={memory_kib},t={passes},p={lanes}${}${}",
                BASE64_BARE.encode(&salted.salt),
                BASE64_BARE.encode(&salted.output)
            ),
            Self::Pbkdf2Sha512 { iterations, salted } => write!(
                text,
                "{PBKDF2_SHA512}{iterations}${}${}",
                BASE64.encode(&salted.salt),
                BASE64.encode(&salted.output)
            ),
            Self::Sha512(salted) => {
                write!(text, "{SHA512}{}${}", BASE64.encode(&salted.salt), BASE64.encode(&salted.output))
            }
            Self::DeviceKey(hash) => write!(text, "{DEVICE_KEY}{}", BASE64.encode(hash)),
            Self::Scram(ScramVerifier { iterations, salt, stored_key, server_key }) => write!(
                text,
                "{SCRAM}{iterations}:{}${}:{}",
                BASE64.encode(salt),
                BASE64.encode(stored_key),
                BASE64.encode(server_key)
            ),
        };
        written.expect("text can be appended to a string");
        text
    }
}

/// Shows the kind alone.
impl fmt::Debug for StoredHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

impl Argon2id {
    /// Reads `v=19$m=19456,t=2,p=1$SALT$HASH`.
    fn parse(text: &str) -> Result<Self, HashFault> {
        let rest = text.strip_prefix("v=19$").ok_or(HashFault::Malformed)?;
        let (parameters, rest) = rest.split_once('$').ok_or(HashFault::Malformed)?;
        let salted = Salted::parse(rest)?;
        let mut numbers = parameters.split(',');
        let mut number = |prefix: &str, max: u32| {
            let digits =
                numbers.next().and_then(|part| part.strip_prefix(prefix)).ok_or(HashFault::Malformed)?;
            match parse_number(digits)? {
                0 => Err(HashFault::Malformed),
                number if number > max => Err(HashFault::TooCostly),
                number => Ok(number),
            }
        };
        let hash = Self {
            memory_kib: number("m=", ARGON2_KIB_MAX)?,
            passes: number("t=", ARGON2_PASSES_MAX)?,
            lanes: number("p=", ARGON2_LANES_MAX)?,
            salted,
        };
        // argon2 itself demands 8 KiB a lane and a salt of 8 bytes.
        let is_sound = hash.memory_kib >= 8 * hash.lanes && hash.salted.salt.len() >= 8;
        if is_sound && numbers.next().is_none() { Ok(hash) } else { Err(HashFault::Malformed) }
    }

    fn compute(&self, password: &[u8], memory: &mut HashMemory) -> Box<[u8]> {
        let mut output = vec![0; self.salted.output.len()];
        let parameters = Params::new(self.memory_kib, self.passes, self.lanes, Some(output.len()))
            .expect("parameters are checked when a hash is read");
        let block_count = parameters.block_count();
        if memory.blocks.len() < block_count {
            memory.blocks.resize(block_count, Block::new());
        }
        Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
            .hash_password_into_with_memory(
                password,
                &self.salted.salt,
                &mut output,
                &mut memory.blocks[..block_count],
            )
            .expect(
                "a password of MQTT is shorter than argon2 allows, and the salt is checked when it is read",
            );
        output.into()
    }
}

impl Salted {
    /// Reads `SALT$HASH`.
    fn parse(text: &str) -> Result<Self, HashFault> {
        let (salt, output) = text.split_once('$').ok_or(HashFault::Malformed)?;
        let (salt, output) = (decode(salt)?, decode(output)?);
        if SALT_BYTES.contains(&salt.len()) && OUTPUT_BYTES.contains(&output.len()) {
            Ok(Self { salt, output })
        } else {
            Err(HashFault::Malformed)
        }
    }
}

impl ScramVerifier {
    /// The verifier of `password` [RFC 5802, section 3], which is prepared as RFC 4013 says.
    pub(crate) fn compute(password: &[u8], salt: Box<[u8]>, iterations: NonZeroU32) -> Self {
        let password = prepare_password(password);
        let mut salted = zeroize::Zeroizing::new([0; 32]);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, &password, salted.as_mut_slice());
        let client_key = hmac_sha256(salted.as_slice(), b"Client Key");
        let server_key = hmac_sha256(salted.as_slice(), b"Server Key");
        Self { iterations, salt, stored_key: sha256(&client_key), server_key }
    }

    /// Reads `ITERATIONS:SALT$STORED_KEY:SERVER_KEY`.
    fn parse(text: &str) -> Result<Self, HashFault> {
        let malformed = HashFault::Malformed;
        let (head, keys) = text.split_once('$').ok_or(malformed)?;
        let (iterations, salt) = head.split_once(':').ok_or(malformed)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or(malformed)?;
        let salt = decode(salt)?;
        if !SALT_BYTES.contains(&salt.len()) {
            return Err(malformed);
        }
        Ok(Self {
            iterations: parse_iterations(iterations)?,
            salt,
            stored_key: decode_array(stored_key)?,
            server_key: decode_array(server_key)?,
        })
    }
}

/// SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// HMAC-SHA-256 of `bytes` under `key`.
pub(crate) fn hmac_sha256(key: &[u8], bytes: &[u8]) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, bytes).as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes")
}

fn random_salt() -> Result<Box<[u8]>, getrandom::Error> {
    let mut salt = [0; WRITTEN_SALT_BYTES];
    getrandom::fill(&mut salt)?;
    Ok(salt.into())
}

/// Digits alone: no sign, and no leading zero, so that one hash has one text.
fn parse_number(digits: &str) -> Result<u32, HashFault> {
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    if !is_plain || digits.is_empty() {
        return Err(HashFault::Malformed);
    }
    // A number that is too long for its type is too large as well.
    digits.parse().map_err(|_| HashFault::TooCostly)
}

fn parse_iterations(digits: &str) -> Result<NonZeroU32, HashFault> {
    let iterations = NonZeroU32::new(parse_number(digits)?).ok_or(HashFault::Malformed)?;
    if iterations.get() > ITERATIONS_MAX { Err(HashFault::TooCostly) } else { Ok(iterations) }
}

fn decode(text: &str) -> Result<Box<[u8]>, HashFault> {
    BASE64.decode(text).map(Vec::into_boxed_slice).map_err(|_| HashFault::Malformed)
}

fn decode_array(text: &str) -> Result<[u8; 32], HashFault> {
    decode(text)?.as_ref().try_into().map_err(|_| HashFault::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verify(line: &str, password: &str) -> bool {
        StoredHash::parse(line).unwrap().verify(password.as_bytes(), &mut HashMemory::default())
    }

    fn check(line: &str, password: &str) {
        assert!(verify(line, password), "{line}");
        assert!(!verify(line, "another"), "{line}");
        assert!(!verify(line, ""), "{line}");
        let hash = StoredHash::parse(line).unwrap();
        assert_eq!(hash.to_line(), line);
        assert!(!format!("{hash:?}").contains('$'));
    }

    #[test]
    fn hashes_of_mosquitto_passwd_are_read() {
        check(
            "$6$h3ovC3NdbCWQzv0m$iOxdYnzNRj6uvHRigXID98S//cyPuW+7K+hyVXYDDzFHDx47hhcAYMR5m3PAUDxNaPn5xaxK6o3ulinvgI9JxA==",
            "correct horse",
        );
        check(
            "$7$101$KNkWVh3eHJJ3nOqt$lX5ZysIijJYMMc8ARfiOp2v1o57+bIBXTrDu+sgHtDFm9cspl4xdPNBgGGt8Pn7WGLa+11FjxFdKBhYPZTckMQ==",
            "correct horse",
        );
    }

    /// The vector of the reference implementation's own test, with `m=256` KiB.
    #[test]
    fn argon2id_agrees_with_the_reference_implementation() {
        check(
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "password",
        );
        check(
            "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
            "password",
        );
    }

    /// The keys follow from the example of RFC 7677, section 3, whose exchange `scram` replays.
    #[test]
    fn a_scram_verifier_also_judges_a_password() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = ScramVerifier::compute(b"pencil", salt.into(), NonZeroU32::new(4096).unwrap());
        check(&StoredHash::Scram(verifier).to_line(), "pencil");
    }

    #[test]
    fn hashes_that_are_written_are_read() {
        let mut memory = HashMemory::default();
        let hashes = [
            StoredHash::argon2id(b"s3cret", &mut memory).unwrap(),
            StoredHash::scram(b"s3cret").unwrap(),
            StoredHash::device_key(b"s3cret"),
        ];
        for hash in hashes {
            check(&hash.to_line(), "s3cret");
            assert!(!hash.is_weak(), "{hash:?}");
        }
        let twice = [StoredHash::scram(b"x").unwrap(), StoredHash::scram(b"x").unwrap()];
        assert_ne!(twice[0].to_line(), twice[1].to_line(), "each has a salt of its own");
    }

    #[test]
    fn weak_hashes_are_known() {
        assert!(StoredHash::parse("$6$AAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap().is_weak());
        for (iterations, is_weak) in [(101, true), (209_999, true), (210_000, false)] {
            let line = format!("$7${iterations}$AAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
            assert_eq!(StoredHash::parse(&line).unwrap().is_weak(), is_weak, "{line}");
        }
    }

    #[test]
    fn every_refusal_is_provoked() {
        let output = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let cases = [
            ("secret".to_owned(), HashFault::UnknownForm),
            ("$5$AAAA$AAAA".to_owned(), HashFault::UnknownForm),
            (String::new(), HashFault::UnknownForm),
            ("$7$101$AAAA".to_owned(), HashFault::Malformed),
            (format!("$7$0$AAAA${output}"), HashFault::Malformed),
            (format!("$7$+5$AAAA${output}"), HashFault::Malformed),
            (format!("$7$1000001$AAAA${output}"), HashFault::TooCostly),
            (format!("$7$99999999999$AAAA${output}"), HashFault::TooCostly),
            (format!("$6$AAAA${output}"), HashFault::Malformed),
            ("$device$AAAA".to_owned(), HashFault::Malformed),
            (format!("$argon2id$v=16$m=256,t=2,p=1$c29tZXNhbHQ${output}"), HashFault::Malformed),
            (format!("$argon2id$v=19$m=256,t=2,p=1,x=1$c29tZXNhbHQ${output}"), HashFault::Malformed),
            (format!("$argon2id$v=19$m=7,t=2,p=1$c29tZXNhbHQ${output}"), HashFault::Malformed),
            (format!("$argon2id$v=19$m=256,t=2,p=1$AAAA${output}"), HashFault::Malformed),
            (format!("$argon2id$v=19$m=65537,t=2,p=1$c29tZXNhbHQ${output}"), HashFault::TooCostly),
            (format!("$argon2id$v=19$m=256,t=11,p=1$c29tZXNhbHQ${output}"), HashFault::TooCostly),
            (format!("$argon2id$v=19$m=256,t=2,p=17$c29tZXNhbHQ${output}"), HashFault::TooCostly),
            (format!("SCRAM-SHA-256$4096$AAAA${output}:{output}"), HashFault::Malformed),
            (format!("SCRAM-SHA-256$9999999:AAAA${output}:{output}"), HashFault::TooCostly),
        ];
        for (line, fault) in &cases {
            assert_eq!(StoredHash::parse(line).err(), Some(*fault), "{line}");
            assert!(!fault.to_string().contains('\n'));
        }
        for fault in HashFault::ALL {
            assert!(cases.iter().any(|(_, provoked)| *provoked == fault), "{fault:?}");
        }
    }
}
