"""Real Gradient files, executed end to end by a real daemon. Each test says what of its file is exchanged: images and
network addresses, nothing else. What the files clone, fetch and call is served here; the table at the end lists it.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile

from tests.support.corpus import Stage, needs_corpus
from tests.support.corpus_programs import (
    CROSSVAL,
    GENERATE,
    INFER,
    MEET,
    MNIST,
    PREDICT,
    STYLEGAN,
    SWEEP,
    SWEEP_MASTER,
    TRACKER,
    TRAIN_CLMBOT,
    TRAIN_FASHION,
)

pytestmark = needs_corpus


def succeeded(*jobs: str) -> dict[str, str]:
    return dict.fromkeys(jobs, "Succeeded")


def test_train_upload_and_deploy_from_an_event(stage: Stage) -> None:
    """A pushed commit, container@v1, a dataset with a namespace, create-model of its version, a here-document."""
    code = stage.git.repository("dkobran/mnist-sample-1", {"mnist.py": MNIST})
    stage.dataset("mnist-sample")
    ran = stage.run(
        "dkobran--mnist-sample-1--workflow.yaml",
        "mnist",
        {"tensorflow/tensorflow:1.13.1-gpu-py3": stage.image, "paperspace/gradient-sdk": stage.image},
        event=code,
    )
    assert ran.phases == succeeded("CloneRepo", "TrainModel", "UploadModel", "DeployModel")
    # `cp -R DIR /outputs/NAME` nests, for /outputs/NAME is there before
    trained = ran.jobs["TrainModel"]["outputs"]["trained-model"]["id"]
    assert ran.files("TrainModel", "trained-model") == {"my-trained-model/saved_model.pb": "trained for 250 epochs"}
    model = stage.model(ran.text("UploadModel", "model-id"))
    assert (model["name"], model["type"], model["ref"]) == ("my-trained-model", "Tensorflow", trained)
    log = "\n".join(ran.log("DeployModel"))
    assert "deployments update --id 7cf5482c-71a1-42ce-ad9c-0bf5a61e4ff6 --spec ./deployment.yaml" in log
    assert "  - name: ENV\n    value: VAR\nresources:\n  replicas: 1\n  instanceType: C4\n" in log
    assert code.head() in "\n".join(ran.log("CloneRepo"))


def test_a_private_repository_and_datasets_as_inputs_of_the_workflow(stage: Stage) -> None:
    """`ref: $GIT_REF`, a password from a secret, workflow inputs with defaults, one of them given by --input-path."""
    code = stage.git.repository("donaghhorgan/clmbot", {"README": "main"}, login="donaghhorgan:a%pass/word")
    code.commit({"clmbot/__main__.py": TRAIN_CLMBOT, "clmbot/__init__.py": "", "Pipfile.lock": "{}"}, branch="develop")
    stage.daemon.client.put_secret("GITHUB_PASSWORD", "a%pass/word")
    stage.dataset("clmbot-config", {"train.yml": "layers: 2"})
    wanted = stage.dataset("clmbot-data", {"a.txt": "one two three"})
    stage.dataset("clmbot-data", {"a.txt": "a newer version that is not asked for"})
    stage.dataset("clmbot-models")
    ran = stage.run(
        "donaghhorgan--clmbot--train-8817c89.yml",
        "clmbot",
        {
            "https://github.com/donaghhorgan/clmbot": code.url.removesuffix(".git"),
            "nvcr.io/nvidia/pytorch:21.02-py3": stage.image,
        },
        inputs={"inputs": {"data": {"id": wanted}}},
    )
    assert ran.files("train-model", "models") == {"model.txt": "layers: 2, 3 words"}
    assert ran.jobs["train-model"]["inputs"]["data"]["id"] == wanted
    assert "data: Read-only file system" in ran.log("train-model")
    assert "stand-in pip: install pipenv==2021.5.29" in ran.log("train-model")
    assert not any("a%pass" in line for job in ran.jobs for line in ran.log(job))


def test_a_tag_of_a_repository(stage: Stage) -> None:
    """`ref: v0.2.0`, and an inline dataset input that stands for the newest version at the start of its job."""
    old = 'from pathlib import Path; Path("/outputs/models/v").write_text(Path("/inputs/data/a.txt").read_text())'
    code = stage.git.repository("donaghhorgan/clmbot-tagged", {"clmbot/__main__.py": old, "Pipfile.lock": "{}"})
    code.commit({"train.yml": "", "clmbot/__init__.py": ""})
    code.tag("v0.2.0", message="a release")
    code.commit({"clmbot/__main__.py": "raise SystemExit('newer than the tag')"})
    stage.dataset("clmbot-data", {"a.txt": "the newest"})
    stage.dataset("clmbot-models")
    ran = stage.run(
        "donaghhorgan--clmbot--train-d2ee235.yml",
        "clmbot-tag",
        {"https://github.com/donaghhorgan/clmbot": code.url, "nvcr.io/nvidia/pytorch:21.02-py3": stage.image},
    )
    assert ran.files("train-model", "models") == {"v": "the newest"}


def test_a_volume_of_any_name_and_a_folded_command(stage: Stage) -> None:
    code = stage.git.repository("dte/model-test", {"mnist.py": MNIST})
    ran = stage.run(
        "dte--model-test--workflow.yaml", "model-test", {"tensorflow/tensorflow:1.15.5-py3": stage.image}, event=code
    )
    assert ran.log("TrainModel") == ["cwd /inputs/mnist-sample holds ['.git', 'mnist.py']"]


def test_two_jobs_that_write_one_dataset_make_a_version_each(stage: Stage) -> None:
    code = stage.git.repository("flexthink/stylegan2", {"run_generator.py": GENERATE})
    stage.dataset("demo-dataset")
    before = stage.versions("demo-dataset")
    ran = stage.run(
        "flexthink--StyleGAN2--stylegan2.yaml",
        "stylegan2",
        {"bash:5": stage.image, "tensorflow/tensorflow:1.14.0-gpu-py3": stage.image},
        event=code,
    )
    made = [
        ran.jobs["UpdateTest"]["outputs"]["generatedTest"]["id"],
        ran.jobs["StyleGan2"]["outputs"]["generatedFaces"]["id"],
    ]
    assert stage.versions("demo-dataset") == [*reversed(made), *before]
    assert ran.files("UpdateTest", "generatedTest") == {"test123.txt": "Test test\n"}
    faces = {f"seed{seed}.png": "0.5" for seed in range(6600, 6606)}
    assert ran.files("StyleGan2", "generatedFaces") == {"test.txt": "test\n", **faces}


def test_a_model_is_trained_and_then_asked(stage: Stage) -> None:
    """Two files of one repository: the first trains and registers, the second sends requests with a secret key."""
    code = stage.git.repository("gradient-ai/infer", {"train.py": TRAIN_FASHION, "infer.py": INFER})
    stage.daemon.client.put_secret("api_key", "key-0123456789")
    stage.dataset("fashion-mnist")
    replaced = {
        "https://github.com/gradient-ai/Deployments-Create-Deploy-Infer.git": code.url,
        "nvcr.io/nvidia/tensorflow:21.09-tf2-py3": stage.image,
    }
    trained = stage.run("gradient-ai--Deployments--fashion-mnist.yaml", "fashion", replaced)
    content = {"trained-model/1/saved_model.pb": "epochs=3 key=14"}
    assert trained.files("TrainModel", "trained-model") == content
    model = stage.model(trained.text("UploadModel", "model-id"))
    assert stage.files_of(model["ref"]) == content
    assert trained.log("TrainModel")[0].startswith("the key is ")
    assert "key-0123456789" not in trained.output + "\n".join(trained.log("TrainModel"))
    asked = stage.run(
        "gradient-ai--Deployments--fashion-mnist-infer.yaml",
        "fashion-infer",
        {**replaced, 'SERVE_URL: "..."': f'SERVE_URL: "{stage.address}/v1/models/trained-model:predict"'},
    )
    assert asked.log("SendInferenceData") == ["3 predictions"]


def test_strings_go_from_job_to_job(stage: Stage) -> None:
    """A fixed version of a dataset becomes a model; its id and an id that a script writes are read as files."""
    stage.dataset("dstew77gm1r0r24", {"saved_model.pb": "the one"}, tag="mkx6lto")
    stage.dataset("dstew77gm1r0r24", {"saved_model.pb": "a newer one"})
    stage.daemon.client.put_secret("api_key_recommender", "recommender-key")
    ran = stage.run(
        "gradient-ai--Deep-Learning-Recommender-TF--workflow-deploy-model-66781be.yaml",
        "recommender",
        {"paperspace/gradient-sdk": stage.image},
    )
    model = stage.model(ran.text("UploadModel", "model-id"))
    assert stage.files_of(model["ref"]) == {"saved_model.pb": "the one"}
    create = "\n".join(ran.log("CreateDeployment"))
    assert f"--modelId {model['id']} --name Recommender Model --machineType C5" in create
    assert ran.text("CreateDeployment", "deployment-id") == "desgztcfxfs9a3n\n"
    assert "stand-in gradient: deployments start --id desgztcfxfs9a3n" in ran.log("StartDeployment")
    assert "stand-in gradient: project none" not in create, "PROJECT_ID is given to every job"
    assert "key given" in create


def test_a_file_moved_into_a_dataset(stage: Stage) -> None:
    generate = 'from pathlib import Path; Path("output.txt").write_text("once upon a time")'
    code = stage.git.repository("gradient-ai/nlp", {"nlp_text_generation.py": generate})
    stage.dataset("demo-dataset")
    ran = stage.run(
        "gradient-ai--NLP-Text-Generation--nlp-text-generation.yaml",
        "nlp",
        {"paperspace/transformers-gpu:0.4.0": stage.image},
        event=code,
    )
    assert ran.files("generateText", "generatedText") == {"output.txt": "once upon a time"}
    assert any(line.endswith("output.txt") for line in ran.log("generateText"))


def test_relative_paths_mean_the_working_directory_of_the_image(stage: Stage) -> None:
    """`python3 demo.py --config config/x` runs where the image has its program; a dataset comes from outside."""
    (stage.served / "vox.pt").write_bytes(b"weights")
    for name in ("model", "test-results"):
        stage.dataset(name)
    assets = stage.dataset("test-assets", {"driving.mp4": "a film", "face.png": "a face"})
    ran = stage.run(
        "gradient-ai--first-order-model--workflow.yaml",
        "first-order",
        {
            "https://drive.google.com/uc?id=1_v_xW1V52gZCZnXgh1Ap_gwA9YVIzUnS": f"{stage.address}/vox.pt",
            "image: python:3.8": f"image: {stage.image}",
            "image: paperspace/first-order-model": f"image: {stage.demo_image}",
        },
    )
    expected = hashlib.sha256(b"num_channels: 3\nweightsa filma face").hexdigest()
    assert ran.files("ValidateModel", "results") == {"adoro.mp4": expected}
    assert ran.jobs["ValidateModel"]["inputs"]["assets"]["id"] == assets


def test_two_roots_meet_in_one_job(stage: Stage) -> None:
    """A clone and a download side by side; `container@v1` runs `wget` with arguments and no shell."""
    (stage.served / "stylegan2-cat-config-f.pkl").write_text("cats")
    code = stage.git.repository("nvlabs/stylegan2-tutorial", STYLEGAN)
    for name in ("stylegan2-wsp-cats-pretrained-network", "stylegan2-wsp-cats-generated"):
        stage.dataset(name)
    ran = stage.run(
        "gradient-ai--gradient-workflows-tutorial-files--stylegan2.yaml",
        "tutorial",
        {
            "https://github.com/NVlabs/stylegan2.git": code.url,
            "https://nvlabs-fi-cdn.nvidia.com/stylegan2/networks": stage.address,
            "alpine:latest": stage.image,
            "tensorflow/tensorflow:1.14.0-gpu-py3": stage.image,
        },
    )
    assert ran.files("generateCatImagesPretrainedModel", "generatedCatsPretrained") == {
        "seed6600.png": "6600 of cats",
        "seed6605.png": "6605 of cats",
    }


def test_seven_jobs_that_train_and_compare(stage: Stage) -> None:
    """Branches that share a volume and a dataset of another namespace; each job changes only its own copy."""
    (stage.served / "stylegan2-cat-config-f.pkl").write_text("cats")
    code = stage.git.repository("nvlabs/stylegan2", STYLEGAN)
    images = {f"cat_images_tfrecords/cat/r0{number}": "x" for number in (2, 3)}
    stage.dataset("stylegan2-workflows-sample-project-extr-img", images)
    kinds = ("pretrained-network", "evaluation-pretrained", "generated-cats-pretrained", "our-trained-network")
    for kind in (*kinds, "evaluation-ours", "generated-cats-ours"):
        stage.dataset(f"stylegan2-wsp-{kind}")
    ran = stage.run(
        "gradient-ai--StyleGAN2-with-Workflows--stylegan2-train-and-evaluate-model-00c4a04.yaml",
        "stylegan2-train",
        {
            "https://github.com/NVlabs/stylegan2.git": code.url,
            "https://nvlabs-fi-cdn.nvidia.com/stylegan2/networks": stage.address,
            "alpine:latest": stage.image,
            "tensorflow/tensorflow:1.14.0-gpu-py3": stage.image,
        },
    )
    assert len(ran.jobs) == 7
    told = {job: ran.files(job, output) for job, output in (
        ("evaluatePretrainedModel", "evaluationPretrained"),
        ("evaluateOurModel", "evaluationOurs"),
        ("generateImagesOurModel", "generatedCatsOurs"),
    )}  # fmt: skip
    assert told == {
        "evaluatePretrainedModel": {"metrics.txt": "fid50k,ppl2_wend of cats on 2 images"},
        "evaluateOurModel": {"metrics.txt": "fid50k,ppl2_wend of our network on 2 images"},
        "generateImagesOurModel": {f"seed{seed}.png": f"{seed} of our network" for seed in (6600, 6605)},
    }


def test_volumes_that_nobody_reads_and_secrets(stage: Stage) -> None:
    code = stage.git.repository("hiydavid/numerai-models", {"run.py": PREDICT})
    stage.daemon.client.put_secret("PUBLIC_ID", "public-0123456")
    stage.daemon.client.put_secret("SECRET_KEY", "numerai-secret-99")
    ran = stage.run(
        "hiydavid--numerai-models--workflow.yaml",
        "numerai",
        {"https://github.com/hiydavid/numerai-models.git": code.url, "tensorflow/tensorflow:2.9.2": stage.image},
    )
    last = ran.log("runLivePredictions")[-1]
    assert last.startswith("as ")
    assert last.endswith(" 17")
    assert "numerai-secret" not in last


def test_the_shared_storage_outlives_the_job(stage: Stage) -> None:
    """Code and parameters are put under /storage; `|| echo` keeps a failed command from failing the job."""
    files = {"awe/__init__.py": "", "awe/training/__init__.py": "", "awe/training/crossval.py": CROSSVAL}
    code = stage.git.repository("jjonescz/awe", files)
    stage.daemon.client.put_secret("MODEL_PARAMS", json.dumps({"layers": 3}))
    ran = stage.run(
        "jjonescz--awe--crossval-2fc1e39.yml",
        "awe",
        {"https://github.com/jjonescz/awe": code.url.removesuffix(".git"), "janjones/awe-data": stage.image},
    )
    log = ran.log("CrossValidation")
    assert log[1:3] == ["layers 3", "Failed"]
    [call] = [line for line in log if "models upload" in line]
    assert re.fullmatch(
        r"stand-in gradient: models upload logs --name awe-logs --modelType Custom --projectId \S+", call
    )


def test_a_sweep_reads_late_what_its_master_wrote(stage: Stage) -> None:
    """A job writes into its volume input; three read, by an inline reference, the version that was made meanwhile."""
    code = stage.git.repository("joshua/wandb", {"wandb_sweep_master.py": SWEEP_MASTER, "wandb_sweep.py": SWEEP})
    stage.dataset("dsxbr4wc9x8ttbv")
    ran = stage.run(
        "joshua-paperspace--wandb-parallel--parallel_workflow.yaml",
        "wandb",
        {
            "https://github.com/joshua-paperspace/wandb-parallel": code.url,
            "nvcr.io/nvidia/pytorch:21.10-py3": stage.image,
        },
    )
    made = ran.jobs["WandBMaster"]["outputs"]["configs"]["id"]
    assert sorted(ran.files("WandBMaster", "configs")) == ["config1.json", "config2.json", "config3.json"]
    for number in (1, 2, 3):
        job = ran.jobs[f"WandBSweep{number}"]
        assert job["inputs"]["configs"]["id"] == made
        assert ran.log(job["name"])[-1] == f"config{number} 0.{number}"


def test_two_trainings_side_by_side(stage: Stage) -> None:
    """Parallel jobs with the same inputs and the same output dataset; a sourced file, executables of the repository.

    Each waits for the other, so one after the other they would never end.
    """
    code = stage.git.repository("ghaida/test", {"setup.sh": "export KERNEL=kernel\n"})
    scripts = {f"run_train_8_{size}.sh": MEET.replace("SIZE", size) for size in ("3", "5")}
    code.commit(scripts, executable=True)
    stage.dataset("dsqbuhm53vosqqs")
    ran = stage.run(
        "GhaidaAlAtoum--test_gradient_workflow--workflow.yaml",
        "fairface",
        {
            "https://github.com/GhaidaAlAtoum/test_gradient_workflow.git": code.url,
            "tensorflow/tensorflow:2.12.0-gpu": stage.image,
        },
    )
    three, five = "TrainEightLayersThreeKernelSize", "TrainEightLayersFiveKernelSize"
    assert ran.files(three, "training-output-dataset") == {"r": "kernel 3 met 2\n"}
    assert ran.files(five, "training-output-dataset") == {"r": "kernel 5 met 2\n"}
    assert "train.csv" in ran.log(three)


def test_a_secret_that_is_printed_is_not_in_the_log(stage: Stage) -> None:
    files = {"setup.sh": "export SOURCED=yes\n", "hello.py": 'import os; print("hello", os.environ["SOURCED"])'}
    code = stage.git.repository("ghaida/secrets", files)
    stage.daemon.client.put_secret("KAGGLE_USERNAME", "kaggle-user-77")
    stage.daemon.client.put_secret("KAGGLE_KEY", "kaggle-key-8899")
    ran = stage.run(
        "GhaidaAlAtoum--test_gradient_workflow--workflow-1cd61e2.yaml",
        "kaggle",
        {"tensorflow/tensorflow:2.12.0-gpu": stage.image},
        event=code,
    )
    log = "\n".join(ran.log("HelloWorld"))
    assert re.search(r"^KAGGLE_KEY=", log, re.MULTILINE)
    assert "kaggle-key-8899" not in log + ran.output
    assert "kaggle-user-77" not in log + ran.output
    assert ran.log("HelloWorld")[-1] == "hello yes"


def test_the_output_of_an_ancestor_that_is_not_in_needs(stage: Stage) -> None:
    code = stage.git.repository("ivan/logo", {"run-stable-diffusion.py": "print('a logo')"})
    ran = stage.run(
        "IvanMishchenko--generate-logo-workflow--workflow-44c0378.yaml",
        "logo",
        {"tensorflow/tensorflow:1.14.0-py3": stage.image},
        event=code,
    )
    assert ran.log("RunStableDiffusion") == ["a logo"]
    assert "stand-in pip: install flax==0.5.0 --no-deps" in ran.log("InstallDep")


def test_an_image_whose_own_command_is_the_job(stage: Stage) -> None:
    """container@v1 without arguments, numbers in quotes, three datasets, a requirements file of the repository."""
    run = 'from pathlib import Path; print(sorted(path.name for path in Path("/inputs").glob("*/*.pt")))'
    code = stage.git.repository("nebula/visual_clues", {"run_sprint4.py": run, "requirements.txt": "x"})
    for name in ("ds1m8oz23zdvh84", "dsmmirqxzfh0xqw", "dsrwpne601hnkn4"):
        stage.dataset(name, {f"{name}.pt": "weights"})
    ran = stage.run(
        "VladiVex--visual_clues--sprint4.yaml",
        "sprint4",
        {
            "https://github.com/NEBULA3PR0JECT/visual_clues.git": code.url,
            "aharonamir/nebula3_videoprocessing:9ec6a70": stage.expert_image,
            "dsivov/nebula3_vidil_env:v02": stage.image,
        },
    )
    identity = "defe975c-d2a5-4777-be3b-4354684b4b33"
    assert ran.log("videoprocessing") == [f"expert --all: task of {identity} at 172.83.9.249/prodemo"]
    found = ["ds1m8oz23zdvh84.pt", "dsmmirqxzfh0xqw.pt", "dsrwpne601hnkn4.pt"]
    assert ran.log("VisualCluesTask")[-1] == str(found)


def test_a_mistake_in_a_real_file_fails_its_run(stage: Stage) -> None:
    """The script says /input instead of /inputs: the job fails in words and no version is made."""
    code = stage.git.repository("kamron/test", {"hello.py": "print('hello')"})
    stage.dataset("data2")
    ran = stage.run(
        "KamronF9--GradientTest--workflow-e6165a6.yaml",
        "mistake",
        {"paperspace/transformers-gpu:0.4.0": stage.image},
        event=code,
        ends="Failed",
    )
    assert ran.phases == {"cloneRepo": "Succeeded", "generateText": "Failed"}
    assert ran.jobs["generateText"]["exit_code"] == 2
    assert "exit code 2" in ran.jobs["generateText"]["message"]
    assert any("/input/repo/hello.py" in line for line in ran.log("generateText"))
    assert stage.versions("data2") == []


def test_what_is_written_beside_the_outputs_is_lost_and_harms_nothing(stage: Stage) -> None:
    files: dict[str, str | bytes] = {"player_shuttle_tracker/main_tracker.py": TRACKER, "clip_3.mp4": b"\x00\xff" * 500}
    code = stage.git.repository("justa/badminton", files)
    ran = stage.run(
        "Justa367--Badminton_video_analysis_v2--workflow.yaml",
        "badminton",
        {"pytorch/pytorch:2.1.0-cuda12.1-cudnn8-runtime": stage.image},
        event=code,
    )
    assert ran.log("RunTracker")[-2:] == ["1000 bytes", "=== FINISHED ==="]


# the dialect of 2021


def test_2021_a_checkout_into_a_volume_that_jobs_share(stage: Stage) -> None:
    automl = 'from pathlib import Path; Path("/outputs/modelOutputs/model.zip").write_text("a model")'
    code = stage.git.repository("gradient-ai/classical", {"automl.py": automl}, login="nmb-paperspace:token-4321")
    stage.daemon.client.put_secret("GITHUB_ACCESS_TOKEN", "token-4321")
    stage.dataset("dstro9y6kduxqhl")
    ran = stage.run(
        "gradient-ai--Gradient-Boosted-Trees-and-AutoML--automl-7c6c7b7.yaml",
        "automl",
        {
            "https://github.com/gradient-ai/Classical-ML-Example": code.url,
            "tensorflow/tensorflow:2.4.1-gpu-jupyter": stage.image,
        },
    )
    assert ran.files("ClassicalML", "modelOutputs") == {"model.zip": "a model"}


def test_2021_download_and_extract(stage: Stage) -> None:
    """Splits, checksums and archives over two datasets and a shared checkout, as the original does with 45 GB."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("cat/data.mdb", "cats")
    (stage.served / "objects").mkdir()
    (stage.served / "objects" / "cat.zip").write_bytes(archive.getvalue())
    md5 = hashlib.md5(archive.getvalue(), usedforsecurity=False).hexdigest()
    (stage.served / "objects" / "cat.zip.md5").write_text(f"{md5}  cat.zip\n")
    code = stage.git.repository("nvlabs/stylegan2-2021", STYLEGAN)
    for name in ("dsr5spfj2aqzlfg", "dsts5p5o8fe86j3"):
        stage.dataset(name)
    ran = stage.run(
        "gradient-ai--StyleGAN2-with-Workflows--stylegan2-download-and-extract-data-437b70c.yaml",
        "stylegan2-data",
        {
            "https://github.com/NVlabs/stylegan2.git": code.url,
            "http://dl.yf.io/lsun": stage.address,
            "tensorflow/tensorflow:1.14.0-gpu-py3": stage.image,
        },
    )
    assert ran.log("getCatImageDatabase").count(f"{md5}  cat.zip") == 2
    parts = [f"cat_images_tfrecords/cat/cat_images_tfrecords-r0{number}_aaa" for number in range(2, 9)]
    assert sorted(ran.files("extractImages", "extractedImages")) == parts
