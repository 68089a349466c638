"""Releases that come after this tree: good ones, whose changes arrive, and bad ones, which are stopped."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from copier.errors import UnsafeTemplateError

from .git import commit_all, git
from .matrix import Variant, load
from .release_checks import asks_for_trust, lost_answers, lost_files
from .releases import Release, candidate
from .rendering import Renderings, contents, copy, update
from .running import python
from .updating import NextRelease, UpdateError, unmerged, updater

AGREEMENT = ("pytest", "-q", "-p", "no:cacheprovider", "--noconftest", "tests/isolation/test_agreement.py")
PLACEMENT = "template/infra/fragments/placement.jinja"
SESSION = "src/saas_agent/tenancy/session.py"


def variant(name: str) -> Variant:
    [found] = [each for each in load().supported if each.id == name]
    return found


@pytest.fixture
def release(template: Path, tmp_path: Path) -> NextRelease:
    return NextRelease(template, tmp_path)


@pytest.fixture
def project(release: NextRelease, renderings: Renderings) -> Path:
    """The variant in which fewest answers are the default ones."""
    return release.project(renderings[variant("vending-memory")])


def answers(project: Path) -> str:
    return (project / ".copier-answers.yml").read_text("utf-8")


def unchanged(project: Path) -> bool:
    return not git(project, "status", "--porcelain")


# ------------------------------------------------------------------------------------------------------- good releases


def test_a_security_fix_reaches_a_file_that_was_edited(release: NextRelease, project: Path) -> None:
    path = project / SESSION
    text = path.read_text("utf-8")
    path.write_text(f"# Mine.\n{text}", "utf-8")
    commit_all(project, "Edit")
    release.write(f"template/{SESSION}", "\n\n# Fixed.\n")
    release.notes(
        "### Update notes\n\n- Deploy at once.\n\n"
        "### Security\n\n- Session ids of other tenants were taken\n  for one's own.\n"
    )
    release.publish()
    done = updater.run(project, {})
    assert path.read_text("utf-8") == f"# Mine.\n{text}\n\n# Fixed.\n"
    report = updater.report(done)
    assert f"# Template v{candidate()} -> {release.version}\n" in report
    assert "## Security fixes that came in\n\n- Session ids of other tenants were taken for one's own.\n" in report
    assert "## Update notes\n\n- Deploy at once.\n" in report
    assert f"## Your changes and the template's together\n\n- `{SESSION}`\n" in report


def test_edits_move_along_with_a_file_however_much_else_it_changed(release: NextRelease, project: Path) -> None:
    """Git alone would not take the new file for the old one."""
    old, new = SESSION, "src/saas_agent/tenancy/sessions.py"
    path = project / old
    path.write_text(path.read_text("utf-8") + "\n\n# Mine.\n", "utf-8")
    commit_all(project, "Edit")
    text = (release.folder / "template" / old).read_text("utf-8")
    (release.folder / "template" / old).unlink()
    # Its end stays, and so does what the edit stands beside.
    other = "".join(f"LINE_{number} = {number}\n" for number in range(200))
    release.write(f"template/{new}", other + text[-200:])
    release.migration(f'[moved]\n"{old}" = "{new}"\n')
    release.publish()
    done = updater.run(project, {})
    assert not path.exists()
    assert (project / new).read_text("utf-8").endswith(text[-100:] + "\n\n# Mine.\n")
    assert new in {*done.merged.combined, *(conflict.path for conflict in done.merged.conflicts)}


def renamed_key(release: NextRelease) -> None:
    release.rename_everywhere("tenant_credentials", "credentials_exchange")
    # The old version renders these patterns too, and doesn't know the new key.
    head, exclude, rest = (release.folder / "copier.yml").read_text("utf-8").partition("_exclude:")
    rest = re.sub(r"\bcredentials_exchange\b", "(credentials_exchange | default(''))", rest)
    (release.folder / "copier.yml").write_text(head + exclude + rest, "utf-8")


RENAMED = '[keys]\ntenant_credentials = "credentials_exchange"\n'


def test_a_renamed_question_keeps_its_answer(release: NextRelease, project: Path) -> None:
    renamed_key(release)
    release.migration(RENAMED)
    release.publish()
    done = updater.run(project, {})
    assert "credentials_exchange: token_vending" in answers(project)
    assert not done.unasked and not done.placement


def test_copier_alone_carries_it_when_it_is_trusted(release: NextRelease, project: Path) -> None:
    renamed_key(release)
    path = project / SESSION
    moved = project / "src/saas_agent/tenancy/sessions.py"
    text = path.read_text("utf-8")
    path.write_text(text + "\n# Mine.\n", "utf-8")
    (project / "docs/tracing.md").write_text("# Mine.\n", "utf-8")
    commit_all(project, "Edit")
    git(release.folder, "mv", f"template/{SESSION}", f"template/src/saas_agent/tenancy/{moved.name}")
    git(release.folder, "rm", "--quiet", "template/docs/tracing.md", "template/docs/metering.md")
    release.migration(
        f'''{RENAMED}
        [moved]
        "{SESSION}" = "src/saas_agent/tenancy/{moved.name}"
        [removed]
        "docs/tracing.md" = "nobody read it"
        "docs/metering.md" = "nobody read it"
        '''
    )
    release.migrates()
    release.notes("### Update notes\n\n- `copier update` asks for `--trust`: a question was renamed.\n")
    release.publish()
    assert list(asks_for_trust(release.folder)) == []
    with pytest.raises(UnsafeTemplateError, match="migrations"):
        update(project)
    assert unchanged(project)
    update(project, trusted=True)
    assert "credentials_exchange: token_vending" in answers(project)
    # As a conflict that isn't one: Copier knows no file to compare with at the new path.
    assert not path.exists() and "\n# Mine.\n" in moved.read_text("utf-8")
    assert set(unmerged(project)) == {f"src/saas_agent/tenancy/{moved.name}"}
    assert (project / "docs/tracing.md").read_text("utf-8") == "# Mine.\n"
    assert not (project / "docs/metering.md").exists()


def test_a_new_question_is_answered_by_its_default_and_told(release: NextRelease, project: Path) -> None:
    release.replace("copier.yml", ("\nci:\n", "\nmascot:\n  type: str\n  help: Which?\n  default: owl\n\nci:\n"))
    release.replace("copier.yml", ("'ci'], ci)", "'mascot', 'ci'], ci)"))
    release.publish()
    done = updater.run(project, {})
    assert done.unasked == ("mascot: owl",)
    assert "mascot: owl" in answers(project)
    commit_all(project, "Update")
    done = updater.run(project, {"mascot": "cat"})
    assert done.answers == ("mascot: owl -> cat",) and not done.unasked


# -------------------------------------------------------------------- bad releases, which fail this repository's checks


@pytest.fixture
def this(template: Path) -> Release:
    """This tree, as the release before a bad one."""
    return Release(candidate(), git(template, "rev-parse", "HEAD").strip(), template)


def test_a_file_that_is_renamed_without_a_word(
    release: NextRelease, this: Release, renderings: Renderings, tmp_path: Path
) -> None:
    git(release.folder, "mv", f"template/{SESSION}", f"template/{SESSION}x")
    release.publish()
    copy(release.folder, tmp_path / "next", {})
    before, now = contents(renderings[variant("default")]), contents(tmp_path / "next")
    assert list(lost_files(this, before, now, release.folder)) == [f'"{SESSION}" = "where it went, or why it is gone"']
    release.migration(f'[moved]\n"{SESSION}" = "{SESSION}x"\n')
    assert not list(lost_files(this, before, now, release.folder))


def test_a_question_that_is_gone(release: NextRelease, this: Release) -> None:
    release.replace("copier.yml", ("\ntenant_credentials:\n", "\ncredentials_exchange:\n"))
    [line] = lost_answers(this, release.folder)
    assert line == "tenant_credentials: no question has this key any more, and no migration.toml renames or drops it"
    release.migration(RENAMED)
    assert not list(lost_answers(this, release.folder))


def test_a_choice_that_is_renamed(release: NextRelease, this: Release) -> None:
    release.replace("copier.yml", ("GitLab CI: gitlab\n", "GitLab CI: gitlab_ci\n"))
    [line] = lost_answers(this, release.folder)
    assert line == "ci: the choice gitlab is gone, and no migration.toml renames it"
    release.migration('[values.ci]\ngitlab = "gitlab_ci"\n')
    assert not list(lost_answers(this, release.folder))


def test_a_question_that_takes_another_type(release: NextRelease, this: Release) -> None:
    release.replace("copier.yml", ("  multiselect: true\n  default: [dynamodb, s3]\n", "  default: dynamodb\n"))
    assert list(lost_answers(this, release.folder)) == [
        "storage: another multiselect can't take the answers that there are"
    ]


@pytest.mark.parametrize(
    ("part", "text"),
    [("_tasks", "_tasks: [echo hello]\n"), ("_jinja_extensions", "_jinja_extensions: [jinja2.ext.do]\n")],
)
def test_what_everybody_would_have_to_trust(part: str, text: str, release: NextRelease, tmp_path: Path) -> None:
    release.write("copier.yml", text)
    release.publish()
    [line] = asks_for_trust(release.folder)
    assert line == f"copier.yml has {part}: everybody would have to trust it, on copy and on every update"
    with pytest.raises(UnsafeTemplateError):
        copy(release.folder, tmp_path / "next", {})


def test_a_migration_that_trust_is_newly_needed_for(release: NextRelease, project: Path) -> None:
    release.migrates()
    release.publish()
    assert list(asks_for_trust(release.folder)) == [
        f"the migration of {release.version} renames no answer: `copier update` can do without it, and without trust",
        f"CHANGELOG.md doesn't say that `copier update` asks for --trust on the way to {release.version}",
    ]
    with pytest.raises(UnsafeTemplateError, match="migrations"):
        update(project)
    # The updater executes nothing, and needs none.
    updater.run(project, {})
    assert release.version in answers(project)


def test_a_migration_without_a_version(release: NextRelease) -> None:
    release.write("copier.yml", "_migrations:\n  - command: echo hello\n")
    [line] = asks_for_trust(release.folder)
    assert line == "a migration has no version: it would run, and ask for trust, on every update"


# ---------------------------------------------------------- bad releases, which would change how tenants are held apart


def choice_renamed(release: NextRelease) -> None:
    release.replace("copier.yml", ("(silo): silo\n", "(silo): siloed\n"))
    release.replace(PLACEMENT, ("== 'silo'", "== 'siloed'"))


def key_renamed(release: NextRelease) -> None:
    release.rename_everywhere("deployment_model", "tenancy_model")


def answer_made_invalid(release: NextRelease) -> None:
    validator = "  validator: \"{% if deployment_model == 'silo' %}silo is for large accounts{% endif %}\"\n"
    release.replace("copier.yml", ("  default: pool\n", f"  default: pool\n{validator}"))


def value_computed(release: NextRelease) -> None:
    question = "all_dedicated:\n  type: bool\n  default: \"{{ deployment_model == 'silo' }}\"\n  when: false\n"
    release.replace("copier.yml", ("\ndedicated_tiers:\n", f"\n{question}\ndedicated_tiers:\n"))
    release.replace(PLACEMENT, ("if deployment_model == 'silo'", "if all_dedicated"))
    # The old version, which renders the patterns too, has no such question.
    release.replace("copier.yml", ("if deployment_model is defined", "if all_dedicated is defined"))


FLIPS = [
    (choice_renamed, {}, "would change deployment_model from silo to pool"),
    (key_renamed, {}, "would lose the answer deployment_model = silo"),
    (answer_made_invalid, {}, "would change deployment_model from silo to pool"),
    (value_computed, {"all_dedicated": "false"}, "doesn't ask for all_dedicated with these answers"),
]


@pytest.mark.parametrize(("make_bad", "data", "complaint"), FLIPS, ids=[flip[0].__name__ for flip in FLIPS])
def test_silo_never_becomes_pool_by_itself(
    make_bad: Callable[[NextRelease], None],
    data: dict[str, str],
    complaint: str,
    release: NextRelease,
    renderings: Renderings,
) -> None:
    project = release.project(renderings[variant("silo")])
    make_bad(release)
    release.publish()
    # Copier alone is stopped by the last question of copier.yml.
    with pytest.raises(
        ValueError, match="Validation error for question 'ci': .*(silo|dedicated by tenancy.lock)"
    ) as stop:
        update(project, data)
    assert "\n" not in str(stop.value).strip() and unchanged(project)

    # A release that has lost this guard too is stopped by `make update`.
    text = (release.folder / "copier.yml").read_text("utf-8")
    guarded = text[
        text.index("  # The last question, so that") : text.index("# ----", text.index("  # The last question"))
    ]
    release.replace("copier.yml", (guarded, ""))
    commit_all(release.folder, "Without its guard", tag=f"{release.version[:-1]}1")
    with pytest.raises(UpdateError, match=complaint):
        updater.run(project, data)
    assert unchanged(project)

    # And where Copier alone lets it through, the repository's own tests fail.
    python(project, *AGREEMENT)
    update(project, data)
    assert 'runtime = "shared"' in (project / "placement.toml").read_text("utf-8")
    with pytest.raises(AssertionError, match=r"placement.basic.runtime: dedicated -> shared"):
        python(project, *AGREEMENT)


def test_what_was_not_agreed_to_stops_the_next_update(release: NextRelease, renderings: Renderings) -> None:
    project = release.project(renderings[variant("default")])
    done = updater.run(project, {"deployment_model": "silo"})
    assert done.to_agree and "placement.basic.runtime: shared -> dedicated" in done.placement
    assert "`make agree`, when the placement above is what you want; until then `make test` fails" in updater.report(
        done
    )
    commit_all(project, "Silo")
    release.write("template/docs/tracing.md", "10. Be kind.\n")
    release.publish()
    with pytest.raises(ValueError, match="runtime of basic tenants is shared by tenancy.lock, and this update"):
        update(project)
    with pytest.raises(UpdateError, match="tenancy.lock doesn't agree with placement.toml: .*placement.basic.runtime"):
        updater.run(project, {})
    assert unchanged(project)
    python(project, "updates.agreement", "--agree")
    commit_all(project, "Agree")
    assert not updater.run(project, {}).to_agree
