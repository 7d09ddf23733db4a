"""A static Space on the Hub that shows a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selfalign.errors import UserError, check_secret, first_line
from selfalign.report.page import MARK
from selfalign.runner.hub import hub_name, is_hub_id, with_retries

if TYPE_CHECKING:
    from huggingface_hub import HfApi, RepoCard


def write_space(name: str, page: str, title: str, *, public: bool, token: str | None = None) -> str:
    """Send a report to the static Space `name`, which is created if it is not there; return its address.

    What a person wrote on the card of the Space stays. UserError if the Hub refuses, if the Space is not a static one,
    or if it shows something else than a report.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    check_secret("--hf-token", token)
    if not is_hub_id(name):
        raise UserError(f"--space {name} does not have the form of a Hub id, such as your-org/report")
    api, repo = HfApi(token=token), hub_name(name)
    try:
        is_new = not with_retries(lambda: api.repo_exists(repo, repo_type="space"))
        url = with_retries(
            lambda: api.create_repo(repo, repo_type="space", space_sdk="static", private=not public, exist_ok=True)
        )
        card, index = with_retries(lambda: _files(api, repo))
        if not is_new:
            _check(repo, card, index)
        files = {"index.html": page, "README.md": space_card(card, title)}
        changes = [CommitOperationAdd(file, text.encode()) for file, text in files.items()]
        with_retries(lambda: api.create_commit(repo, changes, commit_message="report", repo_type="space"))
    except UserError:
        raise
    except Exception as error:  # of the Hub or of the connection, for which the libraries have a dozen types
        raise UserError(f"the Space {repo} can't be created or written to: {first_line(error)}") from error
    return str(url)


def _files(api: HfApi, repo: str) -> tuple[str, str | None]:
    """The card and the page that are in a Space."""
    from huggingface_hub import HfFileSystem

    there, fs = api.list_repo_files(repo, repo_type="space"), HfFileSystem(token=api.token)
    read = {file: str(fs.read_text(f"spaces/{repo}/{file}")) for file in ("README.md", "index.html") if file in there}
    return read.get("README.md", ""), read.get("index.html")


def _check(repo: str, card: str, index: str | None) -> None:
    """UserError if a Space that is there is not one of reports."""
    sdk = _card_of(card).data.to_dict().get("sdk", "static")
    if sdk != "static":
        raise UserError(f"the Space {repo} runs {sdk}, and a report is a static page: choose another name")
    if index is not None and MARK not in index[:1000]:
        raise UserError(f"the Space {repo} shows a page that is no report: it is not overwritten, choose another name")


def space_card(existing: str, title: str) -> str:
    """The README.md of the Space, which tells the Hub how to show it, from the one that is there."""
    from huggingface_hub import SpaceCardData

    card = _card_of(existing)
    ours = {"title": f"{title}: report"[:100], "tags": ["selfcodealign"]}
    data = {**ours, **card.data.to_dict(), "sdk": "static", "app_file": "index.html"}
    text = card.text.strip() or "A report of SelfCodeAlign (arXiv 2410.24198)."
    return f"---\n{SpaceCardData(**data).to_yaml()}\n---\n\n{text}\n"


def _card_of(text: str) -> RepoCard:
    from huggingface_hub import RepoCard

    return RepoCard(text if text.startswith("---") else f"---\n{{}}\n---\n{text}", ignore_metadata_errors=True)
