//! The folder that prepared things are kept in: each under a name and a version of its contents, made once, by one run at a time.
//!
//! An entry is complete when its folder exists: it is made aside and renamed. Knows nothing of what the entries are.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

/// Versions that nobody has used for so long are not missed.
const DISUSED: Duration = Duration::from_secs(30 * 24 * 3600);
/// Logs are kept of so many runs; captures are large.
const RUNS_KEPT: usize = 4;
/// A run takes less.
const RUN_OVER: Duration = Duration::from_secs(3600);

/// The cache folder.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Opens `folder`, or else `rocinante` in the user's cache folder (XDG Base Directory Specification).
    pub fn open(folder: Option<&Path>) -> Result<Self> {
        let root = match folder {
            Some(folder) => folder.to_owned(),
            None => default_root(
                std::env::var_os("ROCINANTE_CACHE").map(PathBuf::from),
                std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from),
                std::env::var_os("HOME").map(PathBuf::from),
            )
            .context("no cache folder: neither ROCINANTE_CACHE, XDG_CACHE_HOME nor HOME is set")?,
        };
        fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
        let root = root
            .canonicalize()
            .with_context(|| format!("cannot resolve {}", root.display()))?;
        Ok(Self { root })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The entry `name` in the version that `recipe` describes. If there is none, `make` fills an empty folder, which then becomes
    /// the entry. Runs that want the same entry wait for the one that makes it.
    pub fn entry(
        &self,
        name: &str,
        recipe: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let place = self.root.join(format!("{name}-{:016x}", fnv1a(recipe)));
        if self.is_there(&place) {
            return Ok(place);
        }
        let _lock = self.lock(name)?;
        if self.is_there(&place) {
            return Ok(place);
        }
        self.drop_disused(name)?;
        let aside = self.root.join(format!("{name}.part"));
        remove(&aside)?;
        fs::create_dir_all(&aside).with_context(|| format!("cannot make {}", aside.display()))?;
        make(&aside)?;
        fs::rename(&aside, &place)
            .with_context(|| format!("cannot rename to {}", place.display()))?;
        Ok(place)
    }

    /// Whether an entry is complete. If so, it is marked as used just now.
    fn is_there(&self, place: &Path) -> bool {
        let Ok(folder) = File::open(place) else {
            return false;
        };
        // Another user's cache can be read but not marked.
        let _ = folder.set_modified(SystemTime::now());
        true
    }

    /// Removes the versions of `name` that nobody has used for a month.
    fn drop_disused(&self, name: &str) -> Result<()> {
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let is_version = entry
                .file_name()
                .to_str()
                .and_then(|file| file.strip_prefix(name)?.strip_prefix('-'))
                .is_some_and(|version| version.len() == 16);
            let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
            if is_version && age > DISUSED {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// The name of a folder for the logs of a new run, yet to be made. Of those of earlier runs the newest few stay.
    pub fn run_folder(&self) -> Result<PathBuf> {
        let runs = self.root.join("runs");
        fs::create_dir_all(&runs).with_context(|| format!("cannot make {}", runs.display()))?;
        let _lock = self.lock("runs")?;
        let mut old: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&runs)? {
            let entry = entry?;
            old.push((entry.metadata()?.modified()?, entry.path()));
        }
        old.sort();
        for (modified, path) in old.iter().rev().skip(RUNS_KEPT) {
            // One that is written to at this moment is another's.
            if modified.elapsed().unwrap_or_default() > RUN_OVER {
                remove(path)?;
            }
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        // Runs of one process differ too.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Ok(runs.join(format!("{}-{}-{count}", now.as_secs(), std::process::id())))
    }

    /// Holds the lock of `name` until the answer is dropped.
    pub fn lock(&self, name: &str) -> Result<File> {
        let path = self.root.join(format!("{name}.lock"));
        let file =
            File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
        flock(&file, FlockOperation::LockExclusive)
            .with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(file)
    }
}

fn default_root(
    own: Option<PathBuf>,
    xdg: Option<PathBuf>,
    home: Option<PathBuf>,
) -> Option<PathBuf> {
    own.or_else(|| xdg.filter(|p| p.is_absolute()).map(|p| p.join("rocinante")))
        .or_else(|| home.map(|p| p.join(".cache/rocinante")))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// FNV-1a, 64 bits: a name for a recipe that stays the same from build to build.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn fnv_of_the_published_vectors() {
        assert_eq!(fnv1a(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn an_entry_is_made_once_even_by_many_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let made = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let cache = Cache::open(Some(folder.path())).unwrap();
                    let place = cache
                        .entry("thing", "v1", |path| {
                            made.fetch_add(1, Ordering::SeqCst);
                            Ok(fs::write(path.join("content"), "x")?)
                        })
                        .unwrap();
                    assert_eq!(fs::read_to_string(place.join("content")).unwrap(), "x");
                });
            }
        });
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_failed_attempt_leaves_no_entry() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(Some(folder.path())).unwrap();
        let failed = cache.entry("thing", "v1", |path| {
            fs::write(path.join("half"), "")?;
            anyhow::bail!("no network")
        });
        assert!(failed.is_err());
        let place = cache.entry("thing", "v1", |_| Ok(())).unwrap();
        assert!(!place.join("half").exists());
    }

    #[test]
    fn another_recipe_is_another_entry() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(Some(folder.path())).unwrap();
        let one = cache.entry("thing", "v1", |_| Ok(())).unwrap();
        let two = cache.entry("thing", "v2", |_| Ok(())).unwrap();
        assert_ne!(one, two);
    }

    fn age(path: &Path, by: Duration) {
        let then = SystemTime::now() - by;
        File::open(path).unwrap().set_modified(then).unwrap();
    }

    #[test]
    fn disused_versions_go_and_used_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(Some(folder.path())).unwrap();
        let [disused, used, other] = ["thing", "thing", "thing-else"].map(|name| {
            let recipe = format!("v{}", fs::read_dir(folder.path()).unwrap().count());
            let place = cache.entry(name, &recipe, |_| Ok(())).unwrap();
            age(&place, DISUSED + Duration::from_secs(1));
            (place, recipe)
        });
        cache.entry("thing", &used.1, |_| Ok(())).unwrap();
        cache.entry("thing", "new", |_| Ok(())).unwrap();
        assert!(!disused.0.exists());
        assert!(used.0.exists() && other.0.exists());
    }

    #[test]
    fn the_newest_runs_stay() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(Some(folder.path())).unwrap();
        let runs = folder.path().join("runs");
        for hours in 1..20_u32 {
            let run = runs.join(hours.to_string());
            fs::create_dir_all(&run).unwrap();
            age(&run, RUN_OVER * hours + Duration::from_secs(60));
        }
        let new = cache.run_folder().unwrap();
        assert_ne!(new, cache.run_folder().unwrap());
        assert_eq!(fs::read_dir(&runs).unwrap().count(), RUNS_KEPT);
        assert!(runs.join("1").exists() && !runs.join("19").exists());
    }

    #[test]
    fn the_folder_follows_xdg() {
        let path = |s: &str| Some(PathBuf::from(s));
        assert_eq!(
            default_root(None, path("/x"), path("/h")),
            path("/x/rocinante")
        );
        assert_eq!(
            default_root(None, path("relative"), path("/h")),
            path("/h/.cache/rocinante")
        );
        assert_eq!(default_root(path("/c"), path("/x"), path("/h")), path("/c"));
        assert_eq!(default_root(None, None, None), None);
    }
}
