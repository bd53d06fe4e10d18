"""Check the files of a static index."""

import json

import pytest

from pywharf.backends.github.gen_gh_pages import write_site
from pywharf.backends.github.static_site import download_base, pages
from pywharf.config.repo_config import GithubSpec
from pywharf.core.errors import BackendUnavailableError, InvalidConfigError
from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName
from pywharf.index.codecs import EMPTY_INDEX, Index, decode_index

BASE = "https://github.com/acme/wheels/releases/download"
WHEEL = "a_one-1.0+cpu-py3-none-any.whl"
SHA, METADATA = "a" * 64, "b" * 64
ONE = Project(
    name=ProjectName("a-one"),
    files=(
        File(
            filename=WHEEL,
            sha256=SHA,
            size=7,
            upload_time="2026-01-02T03:04:05Z",
            requires_python=">=3.8",
            metadata_sha256=METADATA,
            yanked="broken",
            location="https://api.github.com/repos/acme/wheels/releases/assets/7",
        ),
    ),
)
LINK = f"{BASE}/a_one-1.0%2Bcpu-py3-none-any.whl/a_one-1.0%2Bcpu-py3-none-any.whl"
INDEX = Index(5, {ONE.name: ONE, ProjectName("b"): Project(name=ProjectName("b"))})


@pytest.mark.parametrize(
    ("api_url", "base"),
    [
        ("https://api.github.com", "https://github.com/acme/wheels/releases/download"),
        ("https://github.example/api/v3/", "https://github.example/acme/wheels/releases/download"),
        ("https://api.acme.ghe.com", "https://acme.ghe.com/acme/wheels/releases/download"),
        ("http://localhost:4000", "http://localhost:4000/acme/wheels/releases/download"),
        ("https://hub.example/git/api/v3", "https://hub.example/git/acme/wheels/releases/download"),
    ],
)
def test_download_base(api_url, base):
    assert download_base(GithubSpec(owner="acme", repo="wheels", api_url=api_url)) == base


def test_pages():
    made = dict(pages(INDEX, BASE))
    assert list(made) == ["a-one", "b", None]
    assert made[ONE.name]["index.html"].decode() == (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="pypi:repository-version" content="1.4">\n<title>Links for a-one</title>\n</head>\n<body>\n'
        f'<h1>Links for a-one</h1>\n<a href="{LINK}#sha256={SHA}" data-requires-python="&gt;=3.8" '
        f'data-core-metadata="sha256={METADATA}" data-dist-info-metadata="sha256={METADATA}" '
        f'data-yanked="broken">{WHEEL}</a><br>\n</body>\n</html>\n'
    )
    page = json.loads(made[ONE.name]["index.json"])
    assert page["files"] == [
        {
            "filename": WHEEL,
            "url": LINK,
            "hashes": {"sha256": SHA},
            "size": 7,
            "upload-time": "2026-01-02T03:04:05Z",
            "requires-python": ">=3.8",
            "core-metadata": {"sha256": METADATA},
            "yanked": "broken",
        }
    ]
    assert page["versions"] == ["1.0+cpu"]
    assert json.loads(made[None]["index.json"])["projects"] == [{"name": "a-one"}, {"name": "b"}]
    assert b'<a href="a-one/">a-one</a>' in made[None]["index.html"]


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_site_follows_its_index(tmp_path):
    site = tmp_path / "site" / "simple"
    (tmp_path / "site" / "mine").mkdir(parents=True)
    (tmp_path / "site" / "mine" / "index.html").write_text("kept")
    whole = ["a-one/index.html", "a-one/index.json", "b/index.html", "b/index.json", "index.html", "index.json"]
    assert write_site(INDEX, BASE, site) == 6
    assert files_in(site) == whole
    before = (site / "a-one" / "index.html").stat()
    assert before.st_mode & 0o777 == 0o644
    assert write_site(INDEX, BASE, site) == 0
    (site / "b" / "notes").write_text("somebody's")
    assert write_site(Index(6, {ONE.name: ONE}), BASE, site) == 2
    assert files_in(site) == [*whole[:2], "b/notes", *whole[4:]]
    (site / "b" / "notes").unlink()
    assert write_site(EMPTY_INDEX, BASE, site) == 2
    assert sorted(path.name for path in site.iterdir()) == ["index.html", "index.json"]
    assert (tmp_path / "site" / "mine" / "index.html").read_text() == "kept"


def test_names_of_an_index_lead_nowhere_else(tmp_path):
    content = b'{"format":1,"mtime":1,"projects":{"../../out":{}}}'
    with pytest.raises(BackendUnavailableError, match="no normalized name"):
        write_site(decode_index(content, "index.json"), BASE, tmp_path / "simple")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("link", ["simple/a-one", "simple"])
def test_links_are_not_followed(tmp_path, link):
    site, elsewhere = tmp_path / "simple", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to(elsewhere)
    with pytest.raises(InvalidConfigError, match="is a link"):
        write_site(INDEX, BASE, site)
    assert list(elsewhere.iterdir()) == []
