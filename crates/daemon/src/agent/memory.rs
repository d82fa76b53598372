//! Memory that a first or large sync needed and nobody needs after it.

/// Gives free memory back to the kernel. glibc keeps what lies below anything that is in use: after a
/// list of many objects, which come and go among what stays, that is as much again as is in use.
/// Other allocators look after themselves.
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    trim();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "no crate wraps malloc_trim")]
fn trim() {
    // SAFETY: malloc_trim takes the allocator's own locks and touches free memory only.
    unsafe { nix::libc::malloc_trim(0) };
}
