//! Archives that somebody else built. They are written here byte by byte: no honest tool would.

use std::fs;
use std::io::Write;
use std::path::Path;

use pack::{TarError, extract_tar};

use crate::support::{Make, Sandbox, file, listing, make, noise, packed, told};

/// An archive in the making.
#[derive(Default, Clone)]
struct Tar(Vec<u8>);

impl Tar {
    /// A header with no content behind it.
    fn header(mut self, kind: u8, path: &[u8], target: &[u8], mode: u32, bytes: u64) -> Self {
        let mut block = [0; 512];
        block[..path.len()].copy_from_slice(path);
        block[100..108].copy_from_slice(format!("{mode:07o}\0").as_bytes());
        block[108..124].copy_from_slice(b"0000000\x000000000\0");
        block[124..136].copy_from_slice(format!("{bytes:011o}\0").as_bytes());
        block[136..148].copy_from_slice(b"00000000000\0");
        block[156] = kind;
        block[157..157 + target.len()].copy_from_slice(target);
        block[257..265].copy_from_slice(b"ustar\x0000");
        self.0.extend(block);
        self.summed()
    }

    /// Writes another length into the last header.
    fn sized(mut self, bytes: &[u8; 12]) -> Self {
        let at = self.0.len() - 512;
        self.0[at + 124..at + 136].copy_from_slice(bytes);
        self.summed()
    }

    /// Makes the last header's checksum fit.
    fn summed(mut self) -> Self {
        let at = self.0.len() - 512;
        let block = &mut self.0[at..];
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self
    }

    fn content(mut self, content: &[u8]) -> Self {
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn entry(self, kind: u8, path: &[u8], content: &[u8]) -> Self {
        self.header(kind, path, b"", 0o644, content.len() as u64).content(content)
    }

    fn file(self, path: &str, content: &[u8]) -> Self {
        self.entry(b'0', path.as_bytes(), content)
    }

    fn directory(self, path: &str) -> Self {
        self.header(b'5', path.as_bytes(), b"", 0o755, 0)
    }

    fn link(self, kind: u8, path: &str, target: &str) -> Self {
        self.header(kind, path.as_bytes(), target.as_bytes(), 0o777, 0)
    }

    fn pax(self, kind: u8, key: &str, value: &str) -> Self {
        let text = format!(" {key}={value}\n");
        let digits = |length: usize| length.to_string().len();
        let mut length = text.len() + 1;
        while length != text.len() + digits(length) {
            length = text.len() + digits(length);
        }
        self.entry(kind, b"pax", format!("{length}{text}").as_bytes())
    }

    /// The raw archive with its end, two empty blocks.
    fn ended(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }

    fn end(self) -> Vec<u8> {
        zstd::bulk::compress(&self.ended(), 3).unwrap()
    }
}

fn tar() -> Tar {
    Tar::default().directory("./").file("good", b"good")
}

fn extract(sandbox: &Sandbox, archive: &[u8]) -> Result<(), TarError> {
    let outside = tempfile::tempdir().unwrap();
    let path = outside.path().join("web.tar.zst");
    fs::write(&path, archive).unwrap();
    extract_tar(&path, &sandbox.dest())
}

fn refused(rows: Vec<(&str, Vec<u8>, &str)>) {
    for (name, archive, why) in rows {
        let sandbox = Sandbox::new();
        let error = told(&extract(&sandbox, &archive).expect_err(name));
        assert!(error.contains(why), "{name}: {error}");
        sandbox.assert_untouched(name);
    }
}

#[test]
fn r26_an_archive_with_unsafe_entries_is_refused() {
    let mode = |mode| tar().header(b'0', b"bad", b"", mode, 0).end();
    refused(vec![
        ("`..`", tar().file("../../etc/passwd", b"evil").end(), "`.` or `..`"),
        ("`..` inside", tar().file("a/../../../etc/evil", b"").end(), "`.` or `..`"),
        ("`..` behind `./`", tar().file("./../evil", b"").end(), "`.` or `..`"),
        ("a directory `..`", tar().directory("../").end(), "`.` or `..`"),
        (
            "a long name with `..`",
            tar().entry(b'L', b"@", b"../evil\0").file("x", b"").end(),
            "`..`",
        ),
        ("a pax name with `..`", tar().pax(b'x', "path", "../evil").file("x", b"").end(), "`..`"),
        ("absolute", tar().file("/tmp/groundswell-evil", b"evil").end(), "must be relative"),
        ("empty name", tar().file("", b"").end(), "1 to 1024 bytes"),
        ("empty component", tar().file("a//b", b"").end(), "no empty component"),
        ("a character device", tar().entry(b'3', b"bad", b"").end(), "\"bad\": a device"),
        ("a block device", tar().entry(b'4', b"bad", b"").end(), "\"bad\": a device"),
        ("a named pipe", tar().entry(b'6', b"bad", b"").end(), "\"bad\": a named pipe"),
        ("setuid", mode(0o4755), "\"bad\": setuid or setgid"),
        ("setgid", mode(0o2755), "\"bad\": setuid or setgid"),
        (
            "a file twice",
            tar().file("good", b"evil").end(),
            "\"good\": stands in the archive twice",
        ),
        ("a directory twice", tar().directory("a/").directory("a/").end(), "twice"),
        ("a directory, then a file", tar().directory("a").file("a", b"").end(), "twice"),
        ("a file, then a directory", tar().directory("good/").end(), "twice"),
        ("a file, then a link", tar().link(b'2', "good", "a").end(), "twice"),
        ("a link, then a file", tar().link(b'2', "a", "good").file("a", b"evil").end(), "twice"),
        ("through a file", tar().file("good/evil", b"").end(), "leads through a file or link"),
        ("a hard link", tar().link(b'1', "bad", "good").end(), "\"bad\": a hard link"),
        ("a hard link out", tar().link(b'1', "bad", "/etc/passwd").end(), "\"bad\": a hard link"),
        ("a GNU sparse file", tar().entry(b'S', b"bad", b"").end(), "\"bad\": a sparse file"),
        (
            "a pax sparse file",
            tar().pax(b'x', "GNU.sparse.major", "1").file("bad", b"").end(),
            "a sparse file",
        ),
        ("a GNU incremental", tar().entry(b'D', b"bad", b"").end(), "an archive entry of type 'D'"),
    ]);
}

#[test]
fn r26_an_archive_with_unsafe_names_is_refused() {
    let component = "x".repeat(256);
    let overlong = vec!["x".repeat(100); 11].join("/");
    refused(vec![
        ("a name that is not UTF-8", tar().entry(b'0', b"bad\xff", b"").end(), "not UTF-8"),
        (
            "a target that is not UTF-8",
            tar().header(b'2', b"bad", b"\xff", 0o777, 0).end(),
            "target is not UTF-8",
        ),
        ("a newline", tar().file("bad\nname", b"").end(), "control characters"),
        ("an escape sequence", tar().file("bad\u{1b}[2J", b"").end(), "control characters"),
        (
            "a NUL in a long name",
            tar().entry(b'L', b"@", b"good\0evil\0").file("x", b"").end(),
            "control characters",
        ),
        ("a backslash", tar().file("..\\bad", b"").end(), "backslash"),
        (
            "an overlong path",
            tar().entry(b'L', b"@", overlong.as_bytes()).file("x", b"").end(),
            "1 to 1024 bytes",
        ),
        (
            "an overlong component",
            tar().pax(b'x', "path", &component).file("x", b"").end(),
            "more than 255 bytes",
        ),
    ]);
}

#[test]
fn r26_an_archive_with_links_that_lead_out_is_refused() {
    refused(vec![
        ("a link to an absolute path", tar().link(b'2', "a", "/etc").end(), "absolute path"),
        ("a link out", tar().link(b'2', "a", "../../etc").end(), "links out"),
        ("a link out, deeper", tar().link(b'2', "a/b", "../../etc").end(), "links out"),
        (
            "a long link out",
            tar().entry(b'K', b"@", b"../../etc\0").link(b'2', "a", "good").end(),
            "links out",
        ),
        (
            "an overlong link",
            tar().entry(b'K', b"@", &[b'x'; 1_025]).link(b'2', "a", "x").end(),
            "\"a\": the path has an overlong link target",
        ),
        (
            "a link out, then through it",
            tar().link(b'2', "a", "../../etc").file("a/passwd", b"evil").end(),
            "leads through a file or link",
        ),
        (
            "a link to a directory, then through it",
            tar().directory("d/").link(b'2', "a", "d").file("a/evil", b"").end(),
            "leads through a file or link",
        ),
        (
            "a directory, then a link in its place",
            tar().file("a/b", b"").link(b'2', "a", "../../etc").file("a/c", b"evil").end(),
            "\"a\": stands in the archive twice",
        ),
        (
            "a link out through a link that leads up",
            tar().directory("a").link(b'2', "a/up", "..").link(b'2', "a/out", "up/..").end(),
            "through `..` after a name",
        ),
    ]);
}

#[test]
fn r26_a_damaged_or_endless_archive_is_refused() {
    let squeeze = |raw: &[u8]| zstd::bulk::compress(raw, 3).unwrap();
    let raw = tar().ended();
    let whole = tar().end();
    let wide = {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(30).unwrap();
        encoder.write_all(&raw).unwrap();
        encoder.finish().unwrap()
    };
    let mut wrong_sum = raw.clone();
    wrong_sum[0] ^= 1;
    let mut hole = tar().0;
    hole.extend([0; 512]);
    let hole = Tar(hole).file("behind", b"").ended();
    let comments = (0..9).fold(tar(), |tar, _| tar.pax(b'g', "comment", "x"));
    refused(vec![
        ("not zstd", raw.clone(), "is it a .tar.zst"),
        ("empty", Vec::new(), "ends too early"),
        ("not a tar", squeeze(&[7; 2_000]), "is it a tar?"),
        ("a wrong checksum", squeeze(&wrong_sum), "checksum"),
        ("half of its frame", whole[..whole.len() / 2].to_vec(), "archive"),
        ("a byte of its frame missing", whole[..whole.len() - 1].to_vec(), "archive"),
        ("no end", squeeze(&tar().0), "ends too early"),
        ("half an end", squeeze(&raw[..raw.len() - 512]), "ends too early"),
        ("half a header", squeeze(&raw[..100]), "ends too early"),
        ("half a file", squeeze(&tar().file("bad", &[1; 5_000]).0[..3_000]), "ends too early"),
        ("a hole", squeeze(&hole), "it has a hole"),
        ("a second archive behind", squeeze(&[raw.clone(), raw.clone()].concat()), "two in one"),
        ("garbage behind", [whole.clone(), b"garbage".to_vec()].concat(), "archive"),
        ("a negative number", tar().file("bad", b"").sized(&[0xff; 12]).end(), "archive"),
        (
            "a number near 2^64",
            tar().file("bad", b"").sized(b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff").end(),
            "grows to more",
        ),
        ("a directory with content", tar().entry(b'5', b"bad", b"x").end(), "has content"),
        ("the top with content", tar().entry(b'5', b"./", b"x").end(), "has content"),
        ("a link with content", tar().entry(b'2', b"bad", b"x").end(), "has content"),
        ("comments without end", comments.end(), "extended headers in a row"),
        (
            "a number that is none",
            tar().file("bad", b"").sized(b"zzzzzzzzzzz\0").end(),
            "cannot be read",
        ),
        (
            "a bomb: 4 GiB of file in an archive of some hundred bytes",
            tar().header(b'0', b"bad", b"", 0o644, 4 << 30).end(),
            "grows to more than 268435456 bytes",
        ),
        (
            "a bomb of a name",
            tar().header(b'L', b"@", b"", 0o644, 4 << 30).end(),
            "extended header is too long",
        ),
        (
            "a bomb of a comment",
            tar().header(b'g', b"@", b"", 0o644, 4 << 30).end(),
            "extended header is too long",
        ),
        ("a size in an extended header", tar().pax(b'x', "size", "1").end(), "more than 8 GiB"),
        ("a window of 1 GiB", wide, "is it a .tar.zst"),
    ]);
}

/// A bomb of zeros behind the end of the archive is not read to its end.
#[test]
fn r26_a_bomb_behind_the_end_is_refused() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.write_all(&tar().ended()).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..257 {
        encoder.write_all(&zeros).unwrap();
    }
    refused(vec![("257 MiB of zeros", encoder.finish().unwrap(), "grows to more than")]);
}

#[test]
fn r26_an_honest_archive_is_extracted() {
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(150));
    let archive = tar()
        .pax(b'g', "comment", "0123456789abcdef")
        .file("implied/by/file", b"1")
        .directory("implied/")
        .header(b'0', b"run", b"", 0o755, 3)
        .content(b"run")
        .header(b'5', b"shared", b"", 0o2775, 0)
        .entry(b'L', b"@LongLink", format!("{long}\0").as_bytes())
        .file("cut", b"2")
        .pax(b'x', "path", "ümlaut/file")
        .file("cut", b"3")
        .pax(b'x', "mtime", "1.5")
        .file("./with time", b"4")
        .link(b'2', "implied/link", "../run")
        .entry(b'7', b"contiguous", b"5")
        .entry(b'\0', b"old", b"6")
        .end();
    let sandbox = Sandbox::new();
    extract(&sandbox, &archive).unwrap();
    let wanted = tempfile::tempdir().unwrap();
    make(
        wanted.path(),
        &[
            file("good", "good"),
            file("implied/by/file", "1"),
            Make::File("run", b"run".to_vec(), 0o755),
            Make::Directory("shared"),
            file("ümlaut/file", "3"),
            file("with time", "4"),
            Make::Link("implied/link", "../run"),
            file("contiguous", "5"),
            file("old", "6"),
        ],
    );
    let deep = wanted.path().join(&long);
    fs::create_dir(deep.parent().unwrap()).unwrap();
    fs::write(deep, "2").unwrap();
    assert_eq!(listing(&sandbox.dest()), listing(wanted.path()));
}

/// What an ordinary tool makes of a directory gives the artifact that the directory gives.
#[test]
fn r26_directory_and_archive_are_one_artifact() {
    let top = tempfile::tempdir().unwrap();
    let source = top.path().join("dist");
    let tree = [
        Make::File("bin/run", noise(300_000, 1), 0o755),
        file("bin/text", "text"),
        Make::Directory("empty"),
        Make::Link("current", "bin/run"),
    ];
    make(&source, &tree);
    let long = source.join("n".repeat(120)).join("m".repeat(120));
    fs::create_dir_all(&long).unwrap();
    fs::write(long.join("file"), "deep").unwrap();
    std::os::unix::fs::symlink("x".repeat(150), source.join("long-link")).unwrap();

    let archive = top.path().join("dist.tar.zst");
    write_archive(&source, &archive);
    let sandbox = Sandbox::new();
    extract_tar(&archive, &sandbox.dest()).unwrap();
    assert_eq!(packed(&sandbox.dest()).unwrap(), packed(&source).unwrap());
}

fn write_archive(source: &Path, archive: &Path) {
    let encoder = zstd::Encoder::new(fs::File::create(archive).unwrap(), 3).unwrap();
    let mut builder = ::tar::Builder::new(encoder);
    builder.follow_symlinks(false);
    builder.append_dir_all(".", source).unwrap();
    builder.into_inner().unwrap().finish().unwrap();
}

#[test]
fn what_stands_at_the_destination_is_never_touched() {
    let sandbox = Sandbox::new();
    make(&sandbox.dest(), &[file("old", "old")]);
    let before = listing(sandbox.path());
    let error = told(&extract(&sandbox, &tar().end()).unwrap_err());
    assert!(error.contains("stands there already"), "{error}");
    assert_eq!(listing(sandbox.path()), before);
}
