//! The keys of a node, what they are derived from, and how they wrap others.
//!
//! One 32-byte node key is the root; HKDF-SHA256 gives each use a key of its own. Wrapping needs no randomness: the
//! nonce is derived from what is wrapped (as in SIV), so it never meets two different secrets under one key.

use crate::ids::{BlockId, KeyEpoch, TerminalId};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::{hkdf, hmac};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Everything derived from one node key.
pub struct NodeKeys {
    at_rest: WrappingKey,
    link: WrappingKey,
    link_psk: Zeroizing<[u8; 32]>,
    terminals: WrappingKey,
    fingerprints: FingerprintKey,
    registry: Zeroizing<[u8; 32]>,
}

impl NodeKeys {
    /// Derives all keys from a node key.
    #[must_use]
    pub fn from_node_key(node_key: &[u8; 32]) -> Self {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(node_key);
        Self {
            at_rest: WrappingKey::derive(&root, b"at rest"),
            link: WrappingKey::derive(&root, b"link"),
            link_psk: derive(&root, &[b"link handshake"]),
            terminals: WrappingKey::derive(&root, b"terminals"),
            fingerprints: FingerprintKey(derive(&root, &[b"fingerprints"])),
            registry: derive(&root, &[b"registry"]),
        }
    }

    /// Reads the node key from a file, or makes the file, with mode 0600, from `fresh` random bytes if there is none;
    /// it is durable on return. The caller holds the data directory's lock.
    ///
    /// # Errors
    /// [`KeyFileError`]: the operator's to mend. A file that group or others can read is refused.
    pub fn from_file(path: &Path, fresh: impl FnOnce() -> [u8; 32]) -> Result<Self, KeyFileError> {
        Ok(Self::from_node_key(&*Self::key_from_file(path, fresh)?))
    }

    /// The same, but returns the node key itself, for who must show it to the other end of its link.
    ///
    /// # Errors
    /// As [`NodeKeys::from_file`].
    pub fn key_from_file(
        path: &Path,
        fresh: impl FnOnce() -> [u8; 32],
    ) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
        match read_key_file(path) {
            Err(KeyFileError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                let node_key = Zeroizing::new(fresh());
                make_key_file(path, &node_key)
                    .map_err(|source| KeyFileError::Io { path: path.to_owned(), source })?;
                Ok(node_key)
            }
            other => other,
        }
    }

    /// Wraps data keys in this node's own files.
    #[must_use]
    pub fn at_rest(&self) -> &WrappingKey {
        &self.at_rest
    }

    /// Wraps data keys that travel over the link between this node and its upstream, in both directions.
    #[must_use]
    pub fn link(&self) -> &WrappingKey {
        &self.link
    }

    /// Authenticates both ends of that link to each other: the pre-shared key of its handshake.
    #[must_use]
    pub fn link_psk(&self) -> &[u8; 32] {
        &self.link_psk
    }

    /// Wraps terminal keys in the registry.
    #[must_use]
    pub fn terminals(&self) -> &WrappingKey {
        &self.terminals
    }

    /// Seals the node's copy of the registry.
    #[must_use]
    pub fn registry(&self) -> &[u8; 32] {
        &self.registry
    }

    /// Keys the fingerprints of PINs and serials.
    #[must_use]
    pub fn fingerprints(&self) -> &FingerprintKey {
        &self.fingerprints
    }
}

/// The random key of one block. Erased from memory when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct DataKey([u8; 32]);

impl DataKey {
    /// Takes 32 random bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKey")
    }
}

/// Keys the fingerprints of PINs and serials. Erased from memory when dropped.
pub struct FingerprintKey(Zeroizing<[u8; 32]>);

impl FingerprintKey {
    /// One 16-byte key for PINs and one for serials.
    pub(crate) fn halves(&self) -> ([u8; 16], [u8; 16]) {
        (std::array::from_fn(|i| self.0[i]), std::array::from_fn(|i| self.0[16 + i]))
    }
}

/// A secret of 32 bytes, wrapped: nonce, ciphertext, tag.
pub type WrappedKey = [u8; 60];

/// Seals 32-byte secrets for storage or travel.
pub struct WrappingKey {
    cipher: LessSafeKey,
    nonces: hmac::Key,
}

/// A wrapped key that does not open: it was wrapped under another key, for another owner, or is damaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the wrapped key does not open: made under another node key, or damaged")]
pub struct WrongWrapping;

impl WrappingKey {
    /// Wraps the data key of a block.
    #[must_use]
    pub fn wrap(&self, block: BlockId, key: &DataKey) -> WrappedKey {
        self.seal(&block_name(block), &key.0)
    }

    /// Opens the data key of a block.
    ///
    /// # Errors
    /// [`WrongWrapping`].
    pub fn unwrap(&self, block: BlockId, wrapped: &WrappedKey) -> Result<DataKey, WrongWrapping> {
        Ok(DataKey(*self.open(&block_name(block), wrapped)?))
    }

    /// Wraps the key of a terminal.
    #[must_use]
    pub fn wrap_terminal(&self, terminal: TerminalId, epoch: KeyEpoch, key: &[u8; 32]) -> WrappedKey {
        self.seal(&terminal_name(terminal, epoch), key)
    }

    /// Opens the key of a terminal.
    ///
    /// # Errors
    /// [`WrongWrapping`].
    pub fn unwrap_terminal(
        &self,
        terminal: TerminalId,
        epoch: KeyEpoch,
        wrapped: &WrappedKey,
    ) -> Result<Zeroizing<[u8; 32]>, WrongWrapping> {
        self.open(&terminal_name(terminal, epoch), wrapped)
    }

    fn derive(root: &hkdf::Prk, purpose: &[u8]) -> Self {
        let cipher = derive(root, &[purpose, b" wrapping"]);
        let nonces = derive(root, &[purpose, b" nonces"]);
        let cipher = UnboundKey::new(&AES_256_GCM, &*cipher).expect("32 bytes are the cipher's key size");
        Self { cipher: LessSafeKey::new(cipher), nonces: hmac::Key::new(hmac::HMAC_SHA256, &*nonces) }
    }

    fn seal(&self, name: &[u8], secret: &[u8; 32]) -> WrappedKey {
        let mut context = hmac::Context::with_key(&self.nonces);
        context.update(name);
        context.update(secret);
        let digest = context.sign();
        let mut wrapped = [0; 60];
        wrapped[..CIPHERTEXT].copy_from_slice(&digest.as_ref()[..CIPHERTEXT]);
        wrapped[CIPHERTEXT..TAG].copy_from_slice(secret);
        let nonce = Nonce::assume_unique_for_key(std::array::from_fn(|i| wrapped[i]));
        let tag = self
            .cipher
            .seal_in_place_separate_tag(nonce, Aad::from(name), &mut wrapped[CIPHERTEXT..TAG])
            .expect("32 bytes are within the cipher's limit");
        wrapped[TAG..].copy_from_slice(tag.as_ref());
        wrapped
    }

    fn open(&self, name: &[u8], wrapped: &WrappedKey) -> Result<Zeroizing<[u8; 32]>, WrongWrapping> {
        let nonce = Nonce::assume_unique_for_key(std::array::from_fn(|i| wrapped[i]));
        let mut sealed = Zeroizing::new([0; 48]);
        sealed.copy_from_slice(&wrapped[CIPHERTEXT..]);
        let secret =
            self.cipher.open_in_place(nonce, Aad::from(name), &mut *sealed).map_err(|_| WrongWrapping)?;
        Ok(Zeroizing::new(std::array::from_fn(|i| secret[i])))
    }
}

/// What is wrong with a node's key file.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read or made.
    #[error("cannot read or make the key file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Group or others have some right to it.
    #[error("the key file {} has mode {mode:04o}: others may have read it; chmod 0600 it if you are sure they have not", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not a regular file that holds a node key.
    #[error("the file {} does not hold a Pinwheel node key", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
}

fn read_key_file(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let io = |source| KeyFileError::Io { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    let not_a_key = || KeyFileError::NotAKey { path: path.to_owned() };
    if !metadata.is_file() {
        return Err(not_a_key());
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
    }
    if metadata.len() != KEY_FILE_BYTES as u64 {
        return Err(not_a_key());
    }
    let mut text = Zeroizing::new([0; KEY_FILE_BYTES]);
    file.read_exact(&mut *text).map_err(io)?;
    let hex =
        text.strip_prefix(KEY_FILE_TITLE).and_then(|rest| rest.strip_suffix(b"\n")).ok_or_else(not_a_key)?;
    let mut key = Zeroizing::new([0; 32]);
    for (byte, digits) in key.iter_mut().zip(hex.chunks_exact(2)) {
        let digit = |at: usize| char::from(digits[at]).to_digit(16).ok_or_else(not_a_key);
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).expect("two hex digits are a byte");
    }
    Ok(key)
}

/// A crash leaves either no file of this name or the whole key: losing it means losing every PIN sealed under it.
fn make_key_file(path: &Path, key: &[u8; 32]) -> std::io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory)?;
    let temporary = path.with_extension("new");
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let mut text = Zeroizing::new(Vec::with_capacity(KEY_FILE_BYTES));
    text.extend_from_slice(KEY_FILE_TITLE);
    for byte in key {
        text.extend([byte >> 4, byte & 15].map(|digit| HEX[usize::from(digit)]));
    }
    text.push(b'\n');
    file.write_all(&text)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()
}

fn derive(root: &hkdf::Prk, label: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    root.expand(label, hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut *key))
        .expect("one hash length is within HKDF's limit");
    key
}

fn block_name(block: BlockId) -> [u8; 9] {
    let mut name = [b'B'; 9];
    name[1..].copy_from_slice(&block.0.to_le_bytes());
    name
}

fn terminal_name(terminal: TerminalId, epoch: KeyEpoch) -> [u8; 13] {
    let mut name = [b'T'; 13];
    name[1..9].copy_from_slice(&terminal.0.to_le_bytes());
    name[9..].copy_from_slice(&epoch.0.to_le_bytes());
    name
}

const SALT: &[u8] = b"pinwheel node key 1";
const KEY_FILE_TITLE: &[u8] = b"pinwheel node key 1\n";
const KEY_FILE_BYTES: usize = KEY_FILE_TITLE.len() + 64 + 1;
const HEX: &[u8; 16] = b"0123456789abcdef";
// A wrapped key: 0 nonce, 12 ciphertext, 44 tag.
const CIPHERTEXT: usize = 12;
const TAG: usize = 44;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_wrapped_data_key_opens_for_its_own_block_and_purpose_only() {
        let (keys, other) = (NodeKeys::from_node_key(&[1; 32]), NodeKeys::from_node_key(&[2; 32]));
        let data_key = DataKey::from_bytes([3; 32]);
        let wrapped = keys.at_rest().wrap(BlockId(9), &data_key);
        assert_eq!(keys.at_rest().unwrap(BlockId(9), &wrapped), Ok(data_key.clone()));
        assert_eq!(keys.at_rest().unwrap(BlockId(8), &wrapped), Err(WrongWrapping));
        assert_eq!(keys.link().unwrap(BlockId(9), &wrapped), Err(WrongWrapping));
        assert_eq!(other.at_rest().unwrap(BlockId(9), &wrapped), Err(WrongWrapping));
        for bit in 0..wrapped.len() * 8 {
            let mut tampered = wrapped;
            tampered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(keys.at_rest().unwrap(BlockId(9), &tampered), Err(WrongWrapping));
        }
    }

    #[test]
    fn a_known_key_has_a_known_wrapping() {
        // Computed with Python's `cryptography` from `spec/stock.md`.
        let expected = "f3748297369cb59ad9927536fbeaed5e4b5a3a63677466eb15c555d59fe8551039e4b7fbf6a5bf62f628b2b2956b98b0376aab6f93722b2d5a17cf97";
        let wrapped =
            NodeKeys::from_node_key(&[1; 32]).at_rest().wrap(BlockId(9), &DataKey::from_bytes([3; 32]));
        assert_eq!(wrapped.map(|byte| format!("{byte:02x}")).concat(), expected);
    }

    #[test]
    fn a_known_node_key_has_a_known_link_key() {
        // Computed with Python's `hmac` from `spec/link.md`.
        let expected = "a64153d413cc0cd4d6f389db15df00bf07efe80af54bd78bf008b4599ebdb094";
        let keys = NodeKeys::from_node_key(&[1; 32]);
        assert_eq!(keys.link_psk().map(|byte| format!("{byte:02x}")).concat(), expected);
    }

    #[test]
    fn different_secrets_never_share_a_nonce() {
        let keys = NodeKeys::from_node_key(&[1; 32]);
        let nonce =
            |block, key: u8| keys.link().wrap(BlockId(block), &DataKey::from_bytes([key; 32]))[..12].to_vec();
        assert_eq!(nonce(1, 1), nonce(1, 1));
        assert_ne!(nonce(1, 1), nonce(1, 2));
        assert_ne!(nonce(1, 1), nonce(2, 1));
    }

    #[test]
    fn a_terminal_key_opens_for_its_own_terminal_and_epoch_only() {
        let keys = NodeKeys::from_node_key(&[1; 32]);
        let (terminal, epoch) = (TerminalId(5), KeyEpoch(2));
        let wrapped = keys.terminals().wrap_terminal(terminal, epoch, &[9; 32]);
        assert_eq!(keys.terminals().unwrap_terminal(terminal, epoch, &wrapped).as_deref(), Ok(&[9; 32]));
        assert!(keys.terminals().unwrap_terminal(terminal, KeyEpoch(3), &wrapped).is_err());
        assert!(keys.terminals().unwrap_terminal(TerminalId(6), epoch, &wrapped).is_err());
    }

    #[test]
    fn a_key_file_is_made_once_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data/node.key");
        let first = NodeKeys::from_file(&path, || [4; 32]).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
        let wrapped = first.at_rest().wrap(BlockId(1), &DataKey::from_bytes([3; 32]));
        let again = NodeKeys::from_file(&path, || panic!("the file is there")).unwrap();
        assert!(again.at_rest().unwrap(BlockId(1), &wrapped).is_ok());
    }

    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.key");
        NodeKeys::from_file(&path, || [4; 32]).unwrap();
        for mode in [0o640, 0o604, 0o610, 0o602] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let refused = NodeKeys::from_file(&path, || panic!("the file is there")).err();
            assert!(matches!(refused, Some(KeyFileError::Exposed { mode: found, .. }) if found == mode));
        }
    }

    #[test]
    fn a_damaged_key_file_is_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.key");
        NodeKeys::from_file(&path, || [4; 32]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for content in [&whole[..50], b"", &[b'x'; KEY_FILE_BYTES]] {
            std::fs::write(&path, content).unwrap();
            let refused = NodeKeys::from_file(&path, || panic!("the file is there")).err();
            assert!(matches!(refused, Some(KeyFileError::NotAKey { .. })));
        }
    }
}
