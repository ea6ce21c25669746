//! Edits over files, restarts and broken disks.
