"""Folders of Hugging Face's hub: out of its cache, or fetched when asked, a named list of files alone."""

from collections.abc import Callable, Sequence
from pathlib import Path

from leadline.errors import LeadlineError


def hub_folder(repository: str, files: Sequence[str], *, ways: str, download: bool) -> Path:
    """The folder of the hub's cache with `files` of a repository; what lacks is fetched when `download` says so.

    ways: how else the user can give them, for the message. Raises LeadlineError. The cache is read as files: even
    with `local_files_only` the hub's own functions ask the hub something before they look.
    """
    # Imported when asked for: it reads its settings from the environment at that moment.
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

    cache = constants.HF_HUB_CACHE
    paths = [try_to_load_from_cache(repository, name, cache_dir=cache) for name in files]
    if all(isinstance(path, str) for path in paths):
        return Path(str(paths[0])).parent
    if not download:
        raise LeadlineError(
            f"{repository} is not on this machine: looked for its {', '.join(files)} in {cache}. Either {ways}, put "
            "it there, or have it fetched (--download)"
        )
    try:
        found = [hf_hub_download(repository, name, cache_dir=cache) for name in files]
    # Every error of the hub, of HTTP and of the disk is one of these two.
    except (OSError, ValueError) as error:
        raise _not_fetched(repository, error, ways) from None
    return Path(found[0]).parent


def fetch(repository: str, choose: Callable[[Sequence[str]], Sequence[str]], *, ways: str) -> None:
    """Fetch those files of a repository into the hub's cache that `choose` takes of all their names.

    ways: as for `hub_folder`. Raises LeadlineError.
    """
    from huggingface_hub import constants, hf_hub_download, list_repo_files

    try:
        for name in choose(list_repo_files(repository)):
            hf_hub_download(repository, name, cache_dir=constants.HF_HUB_CACHE)
    except LeadlineError:
        raise
    # Versions of the hub's library speak HTTP through libraries whose errors have no ancestor in common.
    except Exception as error:
        raise _not_fetched(repository, error, ways) from None


def _not_fetched(repository: str, error: Exception, ways: str) -> LeadlineError:
    said = next(iter(str(error).splitlines()), type(error).__name__)
    return LeadlineError(f"{repository} could not be fetched from the hub: {said} Instead, {ways}")
