//! Files that appear whole or not at all, whatever happens while they are made.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A name beside this one that nobody else has, for a file that is being made.
pub(crate) fn draft_of(path: &Path) -> io::Result<PathBuf> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let mut draft = path.to_owned().into_os_string();
    draft.push(format!(".{:016x}.new", u64::from_le_bytes(random)));
    Ok(draft.into())
}

/// Gives a file that was made and synced its name, unless there is one of that name: then that is the error. The draft
/// is gone afterwards.
pub(crate) fn publish(draft: &Path, path: &Path) -> io::Result<()> {
    let published = match fs::hard_link(draft, path) {
        // Not every file system has links.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists && !path.exists() => fs::rename(draft, path),
        linked => linked,
    };
    discard(draft);
    published?;
    // The name is durable when the directory is.
    #[cfg(unix)]
    {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        fs::File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

/// Removes a draft that came to nothing.
pub(crate) fn discard(draft: &Path) {
    // It may be gone already, and if it cannot be removed it does no harm.
    let _ = fs::remove_file(draft);
}
