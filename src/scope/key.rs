use std::{
    error::Error as StdError,
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use polyval::Polyval;

use super::{
    Scope,
    provenance::{Account, Origin, Provider},
    session::{Agent, Named},
    tenant::{TenantName, TenantOf},
};
use crate::fresh;

/// The key of all hashes: 32 bytes, without which nothing that is stored says anything about who talked
/// about what.
///
/// Processes that share a store need the same key, and so does a process that wants to find its ledgers
/// again after a restart. With another key they are unreachable.
///
/// # Examples
///
/// ```
/// use tower_reasoning_replay::scope::HashKey;
///
/// let ours_alone = HashKey::random()?;
/// let shared = HashKey::from_bytes([7; 32]);
/// # let _ = (ours_alone, shared);
/// # Ok::<(), tower_reasoning_replay::scope::KeyError>(())
/// ```
///
/// From a variable of the environment, else from a file that is made at the first start:
///
/// ```no_run
/// use tower_reasoning_replay::scope::HashKey;
///
/// let key = match std::env::var("REPLAY_KEY") {
///     Ok(hex) => HashKey::from_hex(&hex)?,
///     Err(_) => HashKey::load_or_create("replay.key")?,
/// };
/// # let _ = key;
/// # Ok::<(), tower_reasoning_replay::scope::KeyError>(())
/// ```
#[derive(Clone)]
pub struct HashKey {
    bytes: [u8; 32],
    /// Compresses long content before it is hashed, under a key of its own.
    compressor: Polyval,
}

impl HashKey {
    /// A key drawn from the randomness of the operating system.
    ///
    /// # Errors
    ///
    /// If the system has none to give.
    pub fn random() -> Result<Self, KeyError> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| KeyError::no_randomness(error.to_string()))?;
        Ok(Self::from_bytes(key))
    }

    /// The key of 64 hexadecimal digits, in either case, as `openssl rand -hex 32` prints them. White space around them
    /// does not matter.
    ///
    /// # Errors
    ///
    /// If they are not 64, or one is no digit. The text does not repeat them.
    pub fn from_hex(hex: &str) -> Result<Self, KeyError> {
        Self::parse(hex).map_err(|what| KeyError { what: Trouble::Hex(what), source: None })
    }

    /// The key in this file, as 64 hexadecimal digits. If there is none, a random one is written to it first, so that
    /// only the owner can read it. The directory has to be there.
    ///
    /// Of processes that do so at the same time one makes the key, and all have the same. The file appears whole. If
    /// others than the owner may read it, that is logged as a warning.
    ///
    /// # Errors
    ///
    /// If the file holds something else, or cannot be read or made.
    pub fn load_or_create(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        let unusable = |error: io::Error| KeyError { what: Trouble::File(path.to_owned()), source: Some(error.into()) };
        match File::open(path) {
            Ok(file) => return Self::read(path, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unusable(error)),
        }
        let key = Self::random()?;
        let draft = fresh::draft_of(path).map_err(unusable)?;
        let made = key.write(&draft).and_then(|()| fresh::publish(&draft, path));
        fresh::discard(&draft);
        match made {
            Ok(()) => Ok(key),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Self::read(path, File::open(path).map_err(unusable)?)
            }
            Err(error) => Err(unusable(error)),
        }
    }

    fn parse(hex: &str) -> Result<Self, &'static str> {
        let digits = hex.trim().as_bytes();
        if digits.len() != 64 {
            return Err("there are not 64 of them");
        }
        let digit = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
        let mut key = [0; 32];
        for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
                return Err("one of them is none");
            };
            *byte = high << 4 | low;
        }
        Ok(Self::from_bytes(key))
    }

    fn read(path: &Path, file: File) -> Result<Self, KeyError> {
        #[cfg(unix)]
        if let Ok(metadata) = file.metadata()
            && std::os::unix::fs::MetadataExt::mode(&metadata) & 0o077 != 0
        {
            tracing::warn!(
                path = %path.display(),
                "others than its owner may use the file of the hash key; take that away: chmod 600"
            );
        }
        let mut hex = String::new();
        // More than that is no key.
        match file.take(1_024).read_to_string(&mut hex) {
            Ok(_) => Self::parse(&hex)
                .map_err(|what| KeyError { what: Trouble::Content(path.to_owned(), what), source: None }),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(KeyError { what: Trouble::Content(path.to_owned(), "it is no text"), source: None })
            }
            Err(error) => Err(KeyError { what: Trouble::File(path.to_owned()), source: Some(error.into()) }),
        }
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        let digits = self.bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let mut hex: String = digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect();
        hex.push('\n');
        file.write_all(hex.as_bytes())?;
        file.sync_all()
    }

    /// The key of these bytes. They should be random and kept secret.
    #[must_use]
    pub fn from_bytes(key: [u8; 32]) -> Self {
        let compression = blake3::keyed_hash(&key, b"tower-reasoning-replay 2026 compression");
        let mut half = polyval::Key::default();
        half.copy_from_slice(&compression.as_bytes()[..16]);
        Self { bytes: key, compressor: Polyval::new(&half) }
    }

    /// The bytes, to key other hashes.
    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    pub(crate) fn compressor(&self) -> &Polyval {
        &self.compressor
    }

    /// The scope of a request.
    pub(crate) fn scope(&self, input: &ScopeInput<'_>) -> Scope {
        let mut fold = Fold(blake3::Hasher::new_keyed(&self.bytes));
        fold.0.update(b"tower-reasoning-replay scope 1");
        match input.tenant {
            TenantOf::Named(name) => {
                let (header, value) = name.parts();
                fold.field(match name {
                    TenantName::Extension(_) => "tenant extension",
                    TenantName::Header(..) => "tenant header",
                });
                fold.field(header).field(value);
            }
            TenantOf::Credential(credential) => {
                fold.field("tenant credential").field(credential.as_bytes());
            }
            TenantOf::Anonymous => {
                fold.field("tenant anonymous");
            }
        }
        match &input.origin.provider {
            Provider::Named(name) => fold.field("provider named").field(name.as_bytes()),
            Provider::AiStudio => fold.field("provider ai studio"),
            Provider::Vertex => fold.field("provider vertex"),
            Provider::CloudCode => fold.field("provider cloud code"),
            Provider::Host(host) => fold.field("provider host").field(host),
            Provider::Unknown => fold.field("provider unknown"),
        };
        let account = if input.binds_account { &input.origin.account } else { &Account::Unbound };
        match account {
            Account::Unbound => fold.field("account unbound"),
            Account::Named(account) => fold.field("account named").field(account.as_bytes()),
            Account::Header(header, account) => fold.field("account header").field(header).field(account),
            Account::Credential(credential) => fold.field("account credential").field(credential.as_bytes()),
            Account::Unknown => fold.field("account unknown"),
        };
        fold.field("model").field(bare_model(input.model));
        let agent = match input.session {
            SessionOf::Named(named) => {
                fold.field("session named").field(&*named.namespace).field(&named.id);
                named.agent.as_ref()
            }
            SessionOf::Derived { hash, agent } => {
                fold.field("session derived").field(hash);
                agent
            }
        };
        match agent {
            Some(agent) => fold.field("agent").field(agent.kind).field(&agent.id),
            None => fold.field("no agent"),
        };
        Scope::from_bytes(*fold.0.finalize().as_bytes())
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(..)")
    }
}

/// There is no such key. The text says what to do, and nothing of a key.
#[derive(Debug)]
pub struct KeyError {
    what: Trouble,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

#[derive(Debug)]
enum Trouble {
    NoRandomness,
    Hex(&'static str),
    Content(PathBuf, &'static str),
    File(PathBuf),
}

impl KeyError {
    fn no_randomness(source: String) -> Self {
        Self { what: Trouble::NoRandomness, source: Some(source.into()) }
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            Trouble::NoRandomness => {
                f.write_str("the system gave no randomness for a hash key; give the key's bytes instead")
            }
            Trouble::Hex(what) => {
                write!(f, "a hash key is 64 hexadecimal digits, but {what}; make one with `openssl rand -hex 32`")
            }
            Trouble::Content(path, what) => write!(
                f,
                "{} should hold a hash key, 64 hexadecimal digits, but {what}; restore it, or remove the file to begin \
                 anew with another key: then what was stored with this one is unreachable",
                path.display()
            ),
            Trouble::File(path) => write!(
                f,
                "the hash key in {} could not be read or made; the directory has to be there, and this process has to \
                 be allowed to write to it once",
                path.display()
            ),
        }
    }
}

impl StdError for KeyError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// All that makes a [`Scope`].
#[derive(Clone, Copy)]
pub(crate) struct ScopeInput<'a> {
    pub(crate) tenant: &'a TenantOf,
    pub(crate) origin: &'a Origin,
    /// The account counts.
    pub(crate) binds_account: bool,
    /// As the request names it; a prefix up to `models/` does not matter.
    pub(crate) model: &'a str,
    pub(crate) session: SessionOf<'a>,
}

impl fmt::Debug for ScopeInput<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScopeInput(..)")
    }
}

/// The session of a request.
#[derive(Clone, Copy)]
pub(crate) enum SessionOf<'a> {
    /// The request names it.
    Named(&'a Named),
    /// It is known only by a hash of the system instruction and the first user content.
    Derived { hash: &'a [u8; 32], agent: Option<&'a Agent> },
}

impl fmt::Debug for SessionOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Named(_) => "SessionOf::Named",
            Self::Derived { .. } => "SessionOf::Derived",
        })
    }
}

/// The id of a model without the path before it: `models/`, or a resource name that ends so.
pub(crate) fn bare_model(model: &str) -> &str {
    match model.rsplit_once("models/") {
        Some((before, bare)) if before.is_empty() || before.ends_with('/') => bare,
        _ => model,
    }
}

/// Hashes fields with their lengths, so that no two lists of fields are one string of bytes.
struct Fold(blake3::Hasher);

impl Fold {
    fn field(&mut self, field: impl AsRef<[u8]>) -> &mut Self {
        let field = field.as_ref();
        self.0.update(&(field.len() as u64).to_le_bytes());
        self.0.update(field);
        self
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, fs};

    use std::sync::LazyLock;

    use http::{HeaderName, Request, request::Parts};
    use proptest::prelude::*;

    use super::*;
    use crate::scope::{Caller, Provenance, Session, SessionSources, Tenant};

    static KEY: LazyLock<HashKey> = LazyLock::new(|| HashKey::from_bytes([7; 32]));

    /// The scope of a request to this model, as the engine takes it.
    fn scope(parts: &Parts, model: &str) -> Scope {
        let caller = Caller::of(parts, &[HeaderName::from_static("x-tenant")], &SessionSources::default());
        let session = match &caller.named {
            Some(named) => SessionOf::Named(named),
            None => SessionOf::Derived { hash: &[1; 32], agent: caller.agent.as_ref() },
        };
        let Caller { tenant, origin, .. } = &caller;
        KEY.scope(&ScopeInput { tenant, origin, binds_account: true, model, session })
    }

    fn request(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn nothing_that_differs_shares_a_scope_g16() {
        const STUDIO: &str = "https://generativelanguage.googleapis.com/";
        let with = |headers: &[(&str, &str)]| request(STUDIO, headers);
        let extended = |set: fn(&mut http::Extensions)| {
            let mut parts = with(&[]);
            set(&mut parts.extensions);
            parts
        };
        let mut requests = vec![
            with(&[]),
            with(&[("session-id", "a")]),
            with(&[("session-id", "b")]),
            with(&[("x-task-id", "a")]),
            with(&[("x-opencode-session", "a")]),
            with(&[("x-openai-subagent", "a")]),
            with(&[("x-claude-code-agent-id", "a")]),
            with(&[("session-id", "a"), ("x-openai-subagent", "a")]),
            with(&[("session-id", "a"), ("x-openai-subagent", "b")]),
            with(&[("session-id", "a"), ("x-claude-code-agent-id", "a")]),
            with(&[("x-tenant", "a")]),
            with(&[("x-tenant", "b")]),
            with(&[("x-tenant", "a"), ("session-id", "a")]),
            with(&[("x-api-key", "a")]),
            with(&[("x-goog-api-key", "a")]),
            with(&[("authorization", "Bearer a")]),
            with(&[("authorization", "Bearer a"), ("session-id", "a")]),
            with(&[("authorization", "Bearer b"), ("session-id", "a")]),
            with(&[("x-tenant", "a"), ("chatgpt-account-id", "a")]),
            with(&[("x-tenant", "a"), ("openai-organization", "a")]),
            extended(|set| drop(set.insert(Tenant::new("a")))),
            extended(|set| drop(set.insert(Session::new("a")))),
            extended(|set| drop(set.insert(Provenance::new("a")))),
            extended(|set| drop(set.insert(Provenance::new("a").with_account("a")))),
            extended(|set| drop(set.insert(Provenance::new("").with_account("a")))),
        ];
        for uri in [
            "https://aiplatform.googleapis.com/",
            "https://cloudcode-pa.googleapis.com/",
            "https://a.example/",
            "https://a.example:8443/",
            "https://b.example/",
            "/",
        ] {
            requests.push(request(uri, &[("session-id", "a")]));
        }
        let mut seen = HashMap::new();
        for (at, parts) in requests.iter().enumerate() {
            for model in ["gemini-3-pro", "gemini-3-flash", ""] {
                if let Some(other) = seen.insert(scope(parts, model), (at, model)) {
                    panic!("{other:?} and {:?} share a scope", (at, model));
                }
            }
        }
    }

    #[test]
    fn what_does_not_matter_changes_no_scope() {
        let one = request("https://us-central1-aiplatform.googleapis.com/a", &[("session_id", "a")]);
        let other = request("https://aiplatform.googleapis.com/b?alt=sse", &[("X-Session-Id", "a")]);
        assert_eq!(scope(&one, "gemini-3-pro"), scope(&other, "models/gemini-3-pro"));
        assert_eq!(
            scope(&one, "publishers/google/models/gemini-3-pro"),
            scope(&other, "projects/p/locations/l/publishers/google/models/gemini-3-pro")
        );
        assert_ne!(scope(&one, "gemini-3-pro"), scope(&one, "tunedModels/gemini-3-pro"));
        assert_ne!(scope(&one, "gemini-3-pro"), scope(&one, "mymodels/gemini-3-pro"));
    }

    #[test]
    fn with_the_extensions_another_upstream_credential_is_the_same_scope() {
        let with = |key: &str| {
            let mut parts = request("https://api.example/", &[("authorization", key), ("session-id", "a")]);
            parts.extensions.insert(Tenant::new("t"));
            parts.extensions.insert(Provenance::new("p").with_account("a"));
            parts
        };
        assert_eq!(scope(&with("Bearer one"), "m"), scope(&with("Bearer two"), "m"));
    }

    #[test]
    fn another_key_gives_another_scope() {
        let parts = request("/", &[]);
        let caller = Caller::of(&parts, &[], &SessionSources::default());
        let Caller { tenant, origin, .. } = &caller;
        let session = SessionOf::Derived { hash: &[1; 32], agent: None };
        let input = ScopeInput { tenant, origin, binds_account: false, model: "m", session };
        assert_ne!(KEY.scope(&input), HashKey::from_bytes([8; 32]).scope(&input));
        let (one, other) = (HashKey::random().unwrap(), HashKey::random().unwrap());
        assert_ne!(one.as_bytes(), other.as_bytes());
    }

    #[test]
    fn nothing_is_in_debug_output() {
        let parts = request("https://secret.example/", &[("x-tenant", "secret"), ("session-id", "secret")]);
        let caller = Caller::of(&parts, &[], &SessionSources::default());
        let session = SessionOf::Named(caller.named.as_ref().unwrap());
        let Caller { tenant, origin, .. } = &caller;
        let input = ScopeInput { tenant, origin, binds_account: true, model: "secret", session };
        let shown = format!(
            "{caller:?}{input:?}{session:?}{:?}{:?}",
            HashKey::from_bytes([115; 32]),
            KeyError::no_randomness("gone".to_owned())
        );
        assert!(!shown.contains("secret") && !shown.contains("115"), "{shown}");
    }

    fn scratch(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("replay-key-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn a_key_is_64_hexadecimal_digits() {
        let hex = "00ff".repeat(16);
        let bytes: [u8; 32] = std::array::from_fn(|at| if at % 2 == 0 { 0 } else { 255 });
        for spelling in [hex.clone(), hex.to_uppercase(), format!(" {hex}\r\n")] {
            assert_eq!(HashKey::from_hex(&spelling).unwrap().as_bytes(), &bytes);
        }
        for wrong in ["", "00", &hex[1..], &format!("{hex}0"), &hex.replace('f', "g"), &hex.replace("ff", "é")] {
            let error = HashKey::from_hex(wrong).unwrap_err();
            assert!(error.to_string().contains("openssl rand -hex 32"), "{error}");
            assert!(wrong.len() < 3 || !format!("{error}{error:?}").contains(wrong));
        }
    }

    #[test]
    fn a_key_file_is_made_once_and_for_its_owner() {
        let directory = scratch("once");
        let path = directory.join("replay.key");
        let keys: Vec<HashKey> = std::thread::scope(|threads| {
            let threads: Vec<_> = (0..8).map(|_| threads.spawn(|| HashKey::load_or_create(&path).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!((text.len(), text.trim().len()), (65, 64));
        let again = HashKey::load_or_create(&path).unwrap();
        assert!(keys.iter().all(|key| key.as_bytes() == again.as_bytes()));
        assert_eq!(HashKey::from_hex(&text).unwrap().as_bytes(), again.as_bytes());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "drafts are left behind");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            // Others may read it: it works, with a warning.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            assert_eq!(HashKey::load_or_create(&path).unwrap().as_bytes(), again.as_bytes());
        }
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_key_file_that_holds_something_else_is_left_alone() {
        let directory = scratch("else");
        let path = directory.join("replay.key");
        for content in [&b""[..], b"secret", &[0xff; 64], &[b'a'; 5_000]] {
            fs::write(&path, content).unwrap();
            let error = HashKey::load_or_create(&path).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("replay.key") && !shown.contains("secret") && !shown.contains("aaaa"), "{shown}");
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        let error = HashKey::load_or_create(directory.join("nowhere").join("replay.key")).unwrap_err();
        assert!(error.to_string().contains("nowhere") && error.source().is_some(), "{error}");
        fs::remove_dir_all(directory).unwrap();
    }

    /// Few values, of which some run into each other when they are joined.
    fn word() -> impl Strategy<Value = String> {
        prop::sample::select(vec!["a", "b", "ab", "aa", "a\0", "model", "agent"]).prop_map(str::to_owned)
    }

    fn tenants() -> impl Strategy<Value = TenantOf> {
        let named = |name: String| TenantOf::Named(TenantName::Extension(Tenant::new(name)));
        prop_oneof![Just(TenantOf::Anonymous), word().prop_map(named)]
    }

    fn origins() -> impl Strategy<Value = Origin> {
        let provider = prop_oneof![
            Just(Provider::AiStudio),
            Just(Provider::Vertex),
            Just(Provider::Unknown),
            word().prop_map(Provider::Host),
            word().prop_map(|name| Provider::Named(name.into())),
        ];
        let account = prop_oneof![
            Just(Account::Unbound),
            Just(Account::Unknown),
            word().prop_map(|name| Account::Named(name.into())),
            word().prop_map(|name| Account::Header("openai-organization", name.into_bytes())),
        ];
        (provider, account).prop_map(|(provider, account)| Origin { provider, account })
    }

    fn sessions() -> impl Strategy<Value = Named> {
        let agent = prop::option::of(word().prop_map(|id| Agent { kind: "x-openai-subagent", id }));
        (word(), word(), agent).prop_map(|(namespace, id, agent)| Named {
            namespace: namespace.into(),
            id,
            strength: crate::scope::Strength::Known,
            agent,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn scopes_are_equal_exactly_if_the_inputs_are(
            (tenants, origins, models, sessions, same) in (
                [tenants(), tenants()], [origins(), origins()], [word(), word()], [sessions(), sessions()], any::<[bool; 4]>(),
            ),
        ) {
            // Otherwise equal inputs would be too rare.
            let second = |at: usize| usize::from(!same[at]);
            let input = |tenant: usize, origin: usize, model: usize, session: usize| ScopeInput {
                binds_account: true,
                tenant: &tenants[tenant],
                origin: &origins[origin],
                model: &models[model],
                session: SessionOf::Named(&sessions[session]),
            };
            let equal = tenants[0] == tenants[second(0)]
                && origins[0] == origins[second(1)]
                && models[0] == models[second(2)]
                && sessions[0] == sessions[second(3)];
            let one = KEY.scope(&input(0, 0, 0, 0));
            let other = KEY.scope(&input(second(0), second(1), second(2), second(3)));
            prop_assert_eq!(one == other, equal);
        }
    }
}
