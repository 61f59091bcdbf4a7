//! How git writes patches: what making one and applying one have in common.

pub mod base85;
pub mod binary;
pub mod blob;
pub mod lines;
pub mod quote;

/// Largest file that is compared line by line, or shown as a binary patch, in bytes.
pub const MAX_SHOWN_BYTES: u64 = 16 << 20;

// The modes that git knows. Of permissions it keeps only whether the owner may execute a file.
pub const MODE_FILE: u32 = 0o100_644;
pub const MODE_EXECUTABLE: u32 = 0o100_755;
pub const MODE_SYMLINK: u32 = 0o120_000;

/// Whether git refuses to touch anything of this name: its own folder, in any case of letters.
pub fn is_git_folder(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b".git")
}

/// Whether git takes the content for binary: a NUL byte in its first 8000.
pub fn is_binary(content: &[u8]) -> bool {
    content.iter().take(8000).any(|byte| *byte == 0)
}
