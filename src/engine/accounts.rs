//! Names and homes of this machine's users and groups, from the files that say so: no name service is asked, which could hang.

use std::path::PathBuf;

/// The name of a user, or its number where no file names it.
pub(super) async fn user_name(id: u32) -> String {
    name_in("/etc/passwd", id).await
}

/// The name of a group, or its number where no file names it.
pub(super) async fn group_name(id: u32) -> String {
    name_in("/etc/group", id).await
}

/// A user's home folder.
pub(super) async fn home_of(id: u32) -> Option<PathBuf> {
    let file = tokio::fs::read_to_string("/etc/passwd").await.ok()?;
    let home = line_of(&file, id)?.split(':').nth(5)?;
    home.starts_with('/').then(|| home.into())
}

async fn name_in(file: &str, id: u32) -> String {
    let file = tokio::fs::read_to_string(file).await.unwrap_or_default();
    let name = line_of(&file, id).and_then(|line| line.split(':').next());
    name.map_or_else(|| id.to_string(), str::to_owned)
}

/// The number is the third field of both files.
fn line_of(file: &str, id: u32) -> Option<&str> {
    let is_it = |line: &&str| line.split(':').nth(2).and_then(|id| id.parse().ok()) == Some(id);
    file.lines().find(is_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_known_has_a_name_and_a_home() {
        assert_eq!(user_name(0).await, "root");
        assert_eq!(group_name(0).await, "root");
        assert_eq!(home_of(0).await, Some("/root".into()));
        assert_eq!(home_of(u32::MAX - 7).await, None);
        assert_eq!(user_name(u32::MAX - 7).await, (u32::MAX - 7).to_string());
    }
}
