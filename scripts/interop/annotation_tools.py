#!/usr/bin/env python3
"""The files of `asterism categories export` in the hands of the real packages, and back.

    pip install label-studio-sdk argilla
    asterism categories export --run RUN --format label-studio --out DIR/tasks.json --label-config DIR/config.xml
    asterism categories export --run RUN --format argilla --out DIR/records.json --label-config DIR/settings.json
    python3 scripts/interop/annotation_tools.py DIR
    asterism categories import --run RUN --format label-studio DIR/label_studio.json --dry-run
    asterism categories import --run RUN --format argilla DIR/argilla.json --dry-run

Validates configuration, tasks and predictions with label-studio-sdk, settings and records with argilla; no
server is needed. Then answers every task: the fourth category gets a new name, the sixth and seventh get the
name of the sixth, of all others 5 % any name at all (drawn with a fixed seed). Both exports have the same
answers, so both imports must say the same.
"""
import importlib.metadata
import json
import pathlib
import random
import sys
import tempfile
import uuid
from unittest import mock

NONE = "none of these"
SHARE_OF_ERRORS = 0.05


def label_studio(directory):
    """Validates the tasks and returns them with the names of the categories."""
    from label_studio_sdk.label_interface import LabelInterface

    interface = LabelInterface((directory / "config.xml").read_text(encoding="utf-8"))
    interface.validate()
    tasks = json.loads((directory / "tasks.json").read_text(encoding="utf-8"))
    # validate_task of 2.1.2 cannot be called with predictions; they have a check of their own.
    bad = [
        task["data"]["row"]
        for task in tasks
        if not interface.validate_task({"data": task["data"]})
        or not all(interface.validate_prediction(prediction) for prediction in task["predictions"])
    ]
    names = [name for name in interface.get_control("category").labels if name != NONE]
    print(f"label-studio-sdk {importlib.metadata.version('label-studio-sdk')}: {len(tasks)} tasks, {len(names)} categories, invalid: {bad}")
    return tasks, names, not bad


def answers_to(tasks, names):
    draw = random.Random(0)
    for task in tasks:
        name = task["data"]["name"]
        if name == names[3]:
            yield "a new name"
        elif name in names[5:7]:
            yield names[5]
        else:
            yield draw.choice(names) if draw.random() < SHARE_OF_ERRORS else name


def label_studio_export(directory, tasks, answers):
    """Writes the tasks as the tool exports them, and lets its own converter read the file."""
    from label_studio_sdk.converter import Converter

    exported = []
    for number, (task, answer) in enumerate(zip(tasks, answers), 1):
        region = {
            "id": f"r{number}", "origin": "manual", "from_name": "category", "to_name": "text",
            "type": "choices", "value": {"choices": [answer]},
        }
        annotation = {
            "id": number, "completed_by": 1, "was_cancelled": False, "ground_truth": False, "lead_time": 1.5,
            "result": [region],
        }
        more = {"id": number, "drafts": [], "meta": {}, "total_annotations": 1, "cancelled_annotations": 0}
        exported.append({**task, **more, "annotations": [annotation]})
    path = directory / "label_studio.json"
    path.write_text(json.dumps(exported), encoding="utf-8")
    with tempfile.TemporaryDirectory() as place:
        converter = Converter(config=(directory / "config.xml").read_text(encoding="utf-8"), project_dir=place)
        converter.convert_to_csv(str(path), place, is_dir=False, sep=",", header=True)
        rows = sum(len(file.read_text(encoding="utf-8").splitlines()) - 1 for file in pathlib.Path(place).glob("*.csv"))
    print(f"its converter reads {rows} rows of the export")
    return rows == len(tasks)


def argilla_round_trip(directory, answers):
    import argilla
    from argilla.client import Argilla
    from argilla.records._io import JsonIO

    # Settings ask for a client when they are made; nothing here needs the server behind it.
    with mock.patch.object(Argilla, "_get_default", classmethod(lambda cls: mock.MagicMock())):
        settings = argilla.Settings.from_json(directory / "settings.json")
        settings.validate()
        labels = settings.questions["category"].labels
        records = JsonIO._records_from_json(directory / "records.json")
        good = all(record.suggestions["category"].value in labels for record in records)
        for record, answer in zip(records, answers):
            user = uuid.UUID(int=1)
            record.responses.add(argilla.Response("category", answer, user_id=user, status="submitted"))
        path = directory / "argilla.json"
        path.unlink(missing_ok=True)
        JsonIO.to_json(records, path)
    print(f"argilla {argilla.__version__}: {len(records)} records, {len(labels)} labels, suggestions among them: {good}")
    return good


def main():
    directory = pathlib.Path(sys.argv[1])
    tasks, names, good = label_studio(directory)
    answers = list(answers_to(tasks, names))
    good &= label_studio_export(directory, tasks, answers)
    good &= argilla_round_trip(directory, answers)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
