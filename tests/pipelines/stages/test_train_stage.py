from pipelines.stages.train import main


def test_training_refuses_a_cpu_where_a_gpu_is_asked_for(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["--output", str(tmp_path), "--round", "0", "--accelerator", "gpu"]) == 1
    assert "--accelerator gpu: torch" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []
