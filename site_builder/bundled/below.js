import{j as te,f as F,s as m,l as b,p as M,n as ae,t as se,a as y,b as R,r as N,c as k,T as O,d as A,e as H,g as s,E as f,F as o,h as C,i as q,B as P,k as u,m as W,u as z,o as ne,q as j,N as ie,v as re,w as g,H as oe,D as le,x as E,y as U,z as _,S as x,C as G,R as ce,A as ue,G as $e,I as he,J as de,L as D,K as me,M as pe,O as fe,P as ve,Q as be}from"./main.js";const[ge,_e,ye]=[3,5,3],J={columns:8};async function ke(e,t){const a=te(e,t).filter(({problem:l})=>l==="").slice(0,ge),[n,i]=await Promise.all([F(e),F(e,m.head_search)]),r=[...a.map(({title:l,note:p,href:c})=>({title:l,note:p,href:c})),...n.slice(0,_e).map(l=>({title:l.text,note:M(l.neurons,"neuron"),href:b.search({q:l.text}),face:xe(l.number)})),...i.slice(0,ye).map(l=>({title:l.text,note:M(l.neurons,"head"),href:b.search({q:l.text})}))];if(r.length>0)return r;const $=await ae(e);return $===""?[]:[{title:$,note:"did you mean this?",href:b.search({q:$})}]}function xe(e){const{faces:t,pack:a,texts:n}=m.search,i=Math.floor(e/a),r=Math.min(a,n-i*a);return se(`${t}/${y(i)}.webp`,e%a,J.columns,Math.ceil(r/J.columns))}var Se=Object.freeze({__proto__:null,suggest:ke});const Te=e=>[S(e.variance_share)?`${A(e.variance_share)} of the feature's variance`:"",S(e.selectivity)?`selectivity ${A(e.selectivity)}`:"",...Oe(e)].filter(t=>t!==""),S=e=>e!=null;function I(e){const{heads:t,model_id:a}=k(e);if(t!==null)return t;throw new O(`This atlas has not decomposed the heads of ${e} (${a}).`)}async function K(e){const t=await R(`${I(e).folder}/heads.json.gz`);return{rows:N(t),scores:t.scores}}async function Me(e,t,a){const{folder:n,layers:i}=I(e);if(!i[t])throw new O(`${e} has ${i.length} attention layers, 0 to ${i.length-1}; there is no layer ${t}.`);if(a>=i[t])throw new O(`Attention layer ${t} of ${e} has ${i[t]} heads, 0 to ${i[t]-1}; there is no head ${a}.`);const[r,$]=await Promise.all([K(e),R(`${n}/${y(t)}.json.gz`)]),l=p=>N($[p],a);return{row:r.rows.find(p=>p.layer===t&&p.unit===a),all:r.rows,texts:l("texts"),features:l("features"),examples:l("examples"),neurons:l("neurons")}}async function Re(e,t,a){const{folder:n,reads:i}=I(e);if(Math.floor(a/m.read_pack)>=(i[t]??0))return[];const r=await R(`${n}/reads/${y(t)}-${y(a/m.read_pack)}.json.gz`);return N(r,a)}function X(e){const t=(m.features?.list??[]).findIndex(a=>a.name===e);if(m.features&&t>=0)return{number:t,entry:m.features.list[t]};throw new O(m.features?`This atlas has no feature \u201C${e}\u201D.`:"This atlas has scored no features.")}async function Ne(e){const{number:t}=X(e),{sets:a}=await R(`${m.features?.folder}/${y(t)}.json.gz`);return a.map(n=>({...n,rows:N(n)}))}const Oe=({ablation_effect:e,ablation_margin:t,ablation_flips:a})=>[[S(t)&&`margin ${H(t)} \u03C3`,S(e)&&`accuracy ${H(100*e)} points`].filter(Boolean).join(", ").replace(/^(?=.)/,"ablation: "),`flips ${A(a)} of images`],L=({id:e,name:t,hint:a,children:n})=>s`<section aria-labelledby=${e}><details class="fold">
  <summary><h2 id=${e}>${t}</h2> <span class="note">${a}</span></summary>${n}</details></section>`,v=e=>e!=null;function Ae({row:e}){const t=(e.writes_to??[]).filter(a=>a.logit>0).slice(0,3);return t.length===0?null:s`<p class="writes"><${f} name="Writes to" column="writes_to" />: ${t.map((a,n)=>s`${n>0&&", "}${a.name} <b>${q(a.logit)}</b>`)}
    <span class="unit"> logit a unit of activation</span></p>`}function Ce({row:e}){const t=v(e.writes_to)||v(e.effect_note)||v(e.ablation_effect);return!t&&!v(e.exciting_classes)?null:s`<section aria-labelledby="classes"><h2 id="classes">Classes and effect</h2>
    <div class="columns-2">
      ${v(e.exciting_classes)&&s`<div><h3><${f} name="Images that excite it" column="exciting_classes" /></h3><${ze} classes=${e.exciting_classes} /></div>`}
      ${v(e.writes_to)&&s`<div><h3><${f} name="Classes it writes to" column="writes_to" /></h3><${Ie} classes=${e.writes_to} /></div>`}
      ${v(e.effect_note)&&s`<div><h3>Classes it writes to</h3><p class="note">Not shown: ${e.effect_note}.</p></div>`}
    </div>
    ${t&&s`<dl class="figures"><${o} name="Effect of ablation" column="ablation_effect" value=${e.ablation_effect}
      unit=${`\xB1 ${C(e.ablation_se)} logit`} compare=${`${e.ablation_kind}, ${M(e.ablation_images??0,"image")}; ${Pe(e)}`} /></dl>`}
  </section>`}const Pe=({ablation_effect:e,ablation_se:t})=>!v(e)||!v(t)?"":Math.abs(e)<2*t?"not told from 0":e>0?"the correct class loses without this neuron":"the correct class gains without this neuron";function ze({classes:e}){const t=Math.max(...e.map(a=>a.mean),1e-9);return s`<table class="bars"><caption>Mean over the images of each class; bars are drawn against the largest.</caption><tbody>${e.map(a=>s`<tr key=${a.name}><th scope="row">${a.name}</th>
    <td class="line"><${P} value=${a.mean/t} /></td><td>${u(a.mean)}</td><td class="note">${M(a.images,"image")}</td></tr>`)}</tbody></table>`}function Ie({classes:e}){const t=Math.max(...e.map(a=>Math.abs(a.logit)),1e-9);return s`<table class="bars"><caption>Change of the class's logit by a unit of activation; what it lowers is grey, bars are drawn against the largest.</caption><tbody>${e.map(a=>s`<tr key=${a.name} class=${a.logit<0?"lowered":""}><th scope="row">${a.name}</th>
    <td class="line"><${P} value=${Math.abs(a.logit)/t} /></td><td>${q(a.logit)}</td></tr>`)}</tbody></table>`}const V=e=>e!=null;function Le({row:e}){if(!V(e.label_status))return null;const t=e.label_candidates??[];return s`<${L} id="label" name="Label" hint="the texts that were tried, and how readable the neuron is">
    ${t.length>0&&s`<div class="scroll" tabindex="0" role="group" aria-label="Texts that were tried"><table class="candidates"><thead><tr><th scope="col">text</th>
      <th scope="col"><${f} name="score" column="label_score" /></th><th scope="col"><${f} name="z" column="label_z" /></th>
      <th scope="col"><${f} name="held-out AUROC" column="label_auroc" /></th></tr></thead>
      <tbody>${t.map(a=>s`<tr key=${a.text} class=${a.text===e.label?"chosen":""}><th scope="row">${a.text}</th>
        <td>${u(a.score)}</td><td>${u(a.z)}</td><td>${u(a.auroc)}</td></tr>`)}</tbody></table></div>`}
    <dl class="figures">
      <${o} name="Clarity" column="clarity" value=${e.clarity} compare="0 as random crops, 1 all alike" />
      <${o} name="Polysemanticity" column="polysemanticity" value=${e.polysemanticity} compare="0 one meaning" />
      <${o} name="Redundancy" column="redundancy" value=${e.redundancy} compare=${V(e.twin)&&s`twin: <${je} address=${e.twin} />`} />
      <${o} name="Texts compared with" column="label_view" value=${e.label_view==="crop"?"crops":"whole images"} compare=${e.label_view==="crop"?"around the strongest patch":""} />
      <${o} name="List of texts" column="concept_set" value=${s`<code class="hash">${e.concept_set}</code>`} />
      <${o} name="Compared by" column="embedder" value=${s`<code class="hash">${e.embedder}</code>`} />
    </dl><//>`}function je({address:e}){const[t,,a,n]=e.split("/");return s`<a href=${b.neuron(t,Number(a),Number(n))}>${W(t,Number(a),Number(n))}</a>`}function Be({slug:e,layer:t,unit:a}){const{value:n,error:i,stale:r}=z(()=>ne(e,t,a),[e,t,a]);if(k(e).layers[t].matches===void 0)return null;if(i)return s`<section><h2>Same in other models</h2><${j} error=${i} /></section>`;const $=r?[]:n??[],l=[...new Set($.map(d=>d.slug))],p=$.find(d=>d.cluster!==null)?.cluster??null,c=l.map(d=>$.filter(T=>T.slug===d));return s`<section aria-labelledby="matches"><h2 id="matches">Same in other models</h2>
    ${p!==null&&s`<p class="cluster-line">Part of <a href=${b.cluster(p)}>Rosetta cluster ${p}</a>: neurons of
      three or more models, every two of them each other's best counterpart.</p>`}
    <div class="counterparts">${c.filter(([d])=>d.slug!==e).map(d=>s`<${Q} key=${d[0].slug} rows=${d} />`)}</div>
    ${c.every(([d])=>d.slug===e)&&!r&&s`<p class="note">${m.models.length===1?"This atlas holds no other model.":"No other model of this atlas was measured on the same images."}</p>`}
    ${c.filter(([d])=>d.slug===e).map(d=>s`<h3 key="own">Near-duplicates in this model</h3>
      <div class="counterparts" key="own tiles">${d.map(T=>s`<${Q} key=${T.partner} rows=${[T]} />`)}</div>`)}
    ${$.length>0&&s`<p class="note"><${f} name="Correlation" column="correlation" table="neuron_matches" /> of both activation maps over all places of all probe images;
      the tick is <${f} name="chance" column="threshold" table="neuron_matches" />: what 99 % of the model's neurons stay below when
      images are shuffled. What is not above it may be chance.</p>`}</section>`}function Q({rows:[e,...t]}){return s`<${ie} slug=${e.slug} layer=${e.layer} unit=${e.partner}>
    ${e.label!==null&&s`<span class="label-small">${e.label}</span>`}
    <${Fe} row=${e} />
    ${t.length>0&&s`<span class="note next">next: ${t.map((a,n)=>s`${n>0&&", "}${re(a.slug,a.layer,a.partner)?s`<a href=${b.neuron(a.slug,a.layer,a.partner)}>${a.layer}/${a.partner}</a>`:`${a.layer}/${a.partner}`} ${u(a.correlation)}`)}</span>`}
  <//>`}function Fe({row:e}){const t=e.threshold??e.null;return s`<span class="correlation"><span><b>${u(e.correlation)}</b> <span class="unit">chance ${u(t)}</span></span>
    <${P} value=${e.correlation} chance=${t} />
    ${e.mutual===1&&s`<span class="flag">mutual best</span>`}${e.significant===0&&s`<span class="unit">not above chance</span>`}</span>`}const h=e=>e!=null;function He({row:e,summary:t,layer:a}){const n=[{name:"start",value:e.activation_start,kind:"start"},{name:"this picture",value:e.activation,kind:"end"},h(e.natural_mean)?{name:"changed a little",value:e.natural_mean,kind:"fresh"}:{name:"recoloured, shifted",value:e.robust_mean,spread:e.robust_std,kind:"fresh",note:`${u(e.robust_mean)} \xB1 ${C(e.robust_std)}`},{name:"best real image",value:e.mean_max,kind:"real"},{name:`layer ${a}`,band:t.quantiles,kind:"layer",note:`median ${u(t.quantiles[2])}`}];return s`${h(e.verdict)&&s`<p class="verdict"><${f} name="verdict" column="verdict"><b>${E(e)}</b> ${Ue(e)}<//></p>`}
    <p class="verdict">${De(e)}</p>
    ${U(e)!==null&&s`<p class="verdict"><${f} name="percentile" column="percentile">${qe(e)}<//></p>`}
    ${h(e.natural_kinds)&&e.natural_kinds.length>0&&s`<${Ee} kinds=${e.natural_kinds} />`}
    <figure><${le} label="Activation on one scale" rows=${n} />
    <figcaption>Activation, mean over patch tokens, on one scale; the line is 0. The bar of layer ${a} holds half, its thin
      part nine tenths of the activations that the ${_(t.described)} pictures of this layer reach.</figcaption></figure>
    <p class="rank">Rank <b>${_(e.rank)}</b> of ${_(t.described)} in its layer by activation.</p>
    ${h(e.rescue)&&s`<p class="rank">Rescued: the first attempt gave no gradient, then <b>${e.rescue}</b> moved it.</p>`}`}function qe(e){const t=_(e.probe_images),a=r=>h(r)?s`<b>${u(r)}</b> times the best`:"no image fires the neuron",n=s`mean over patches ${a(e.ratio_to_best)}, strongest patch ${a(e.peak_ratio)}`;return{both:s`More than every one of ${t} real images: ${n}.`,mean:s`More than every one of ${t} real images by the mean over patches, not at the strongest patch: ${n}.`,peak:s`More than every one of ${t} real images at the strongest patch, not by the mean over patches: ${n}.`,neither:s`Less than the best of ${t} real images: ${n}. By the mean, more than <b>${u(e.percentile)} %</b> of them.`}[U(e)??"neither"]}const We={shift:"shifted",turn:"turned, zoomed",colour:"recoloured",blur:"blurred",noise:"noisy"};function Ee({kinds:e}){return s`<p class="note">Kept when ${e.map(({kind:t,kept:a},n)=>s`${n>0&&" \xB7 "}${We[t]??t} <b>${h(a)?g(Math.max(0,a)):"\u2013"}</b>`)}</p>`}const Ue=e=>h(e.verdict_reason)?`${e.verdict_reason[0].toUpperCase()}${e.verdict_reason.slice(1)}.`:"";function Ge({row:e}){if(!h(e.histogram))return null;const t=e.activation_peak??null,a=h(e.fires_on)?s`<${f} name="fires on" column="fires_on">Fires on <b>${g(e.fires_on)}</b> of images<//>`:"Fires on no image: no patch of any probe image is over 0.";return s`<div class="fires-on"><p class="verdict">${a}</p>
    <figure><${oe} histogram=${e.histogram} mark=${t} from=${h(e.fires_on)?e.peak_max/2:null} name="Images by their strongest patch" />
    <figcaption>Images by their strongest patch; heights are square roots of counts.${h(e.fires_on)&&" Blue: over half of the strongest."}
      ${t!==null&&s` The pin is the picture: <b>${u(t)}</b>${h(e.peak_ratio)&&s`, ${u(e.peak_ratio)} times the strongest image`}.`}</figcaption></figure></div>`}function De(e){if(e.status==="inactive")return s`It reaches <b>${u(e.activation)}</b>, from ${u(e.activation_start)} at the start: this neuron did not fire.`;const t=!h(e.verdict)&&h(e.robust_mean)&&e.activation>0?e.robust_mean/e.activation:null;return s`It ${e.activation>e.activation_start?"drives":"brings"} the neuron to <b>${u(e.activation)}</b>, from ${u(e.activation_start)} at the start.${" "}
    ${t!==null&&s`Under ${e.robust_draws} fresh random shifts of place and colour ${t<=0?s`<b>nothing</b> of that remains.`:s`<b>${g(t)}</b> of that ${t<1?"remains":"is reached"}.`}`}`}function Je({row:e,summary:t}){return s`<dl class="figures">${e.status!==null&&s`<${Ke} row=${e} summary=${t} />`}<${Xe} row=${e} /></dl>`}function Ke({row:e,summary:t}){const a=(n,i)=>h(n)&&i>0?`${g(n/i)} of the clean picture's`:"";return s`<${o} name="Activation" column="activation" value=${e.activation} unit="mean over patches"
        compare=${`median of the layer ${u(t.quantiles[2])}, start ${u(e.activation_start)}`} />
      <${o} name="Strongest patch" column="activation_peak" value=${e.activation_peak} unit="activation"
        compare=${`start ${u(e.activation_start_peak)}`} />
      ${h(e.verdict)&&s`<${o} name="Verdict" column="verdict" value=${e.verdict} compare=${e.verdict_reason} />
      <${o} name="Under natural changes" column="natural_mean" value=${e.natural_mean} unit="mean over patches" compare=${h(e.natural_kept)?`${g(e.natural_kept)} of the stored picture's`:""} />
      <${o} name="Strongest patch, changed" column="natural_peak" value=${e.natural_peak} unit="activation" compare=${h(e.natural_kept_peak)?`${g(e.natural_kept_peak)} of the stored picture's`:""} />`}
      <${o} name="Recoloured and shifted, as published" column="robust_mean" value=${e.robust_mean} unit=${`\xB1 ${C(e.robust_std)}, ${e.robust_draws} draws`}
        compare=${a(e.robust_mean,e.activation)} />
      <${o} name="Strongest patch, so" column="robust_peak" value=${e.robust_peak} unit="activation" compare=${a(e.robust_peak,e.activation_peak)} />
      <${o} name="Picture as stored" column="activation_stored" value=${e.activation_stored} unit="mean over patches" compare=${a(e.activation_stored,e.activation)} />
      <${o} name="Status" column="status" value=${e.status} compare=${`${_(t.active)} active, ${_(t.inactive)} inactive in this layer`} />
      <${o} name="Rescue" column="rescue" value=${e.rescue??"none"} compare=${h(e.rescue)?"":"a neuron with a flat gradient gets another start"} />
      <${o} name="Steps" column="steps" value=${e.steps} unit="steps" compare=${`${_(e.image_steps??0)} forward-backward passes of one image`} />
      <${o} name="Time" column="seconds" value=${e.seconds} unit="s" compare="share of its batch, on the machine of the run" />`}function Xe({row:e}){if(!h(e.probe_images))return null;const t=`${_(e.probe_images)} images`;return s`<${o} name="Fires on" column="fires_on" value=${h(e.fires_on)?g(e.fires_on):null} unit="of images" compare=${`of ${t}`} />
    <${o} name="Active patches" column="fraction_active" value=${g(e.fraction_active)} unit="of patch tokens" compare=${`of ${t}`} />
    <${o} name="Best real image" column="mean_max" value=${e.mean_max} unit="mean over patches" compare=${h(e.activation)?`the picture ${u(e.activation)}`:""} />
    <${o} name="Strongest real patch" column="peak_max" value=${e.peak_max} unit="activation" compare=${h(e.activation_peak)?`the picture ${u(e.activation_peak)}`:""} />
    ${h(e.percentile)&&s`<${o} name="Percentile" column="percentile" value=${e.percentile} unit="% of images below the picture" compare=${h(e.ratio_to_best)?`${u(e.ratio_to_best)} times the best image`:""} />
    <${o} name="Ratio at the strongest patch" column="peak_ratio" value=${e.peak_ratio} unit="times the best image" />`}
    <${o} name="Over all patches" column="token_mean" value=${e.token_mean} unit=${`\xB1 ${C(e.token_std)}`} compare="mean and standard deviation" />
    <${o} name="Kurtosis" column="token_kurtosis" value=${e.token_kurtosis} compare="3 for a normal distribution" />
    <${o} name="Quantiles of the strongest patch" column="peak_quantiles" compare="at 1, 5, 25, 50, 75, 90, 95, 99 and 99.9 % of images"
      value=${e.peak_quantiles}>${(e.peak_quantiles??[]).map(u).join(", ")}<//>`}function Ve({slug:e,layer:t,unit:a}){const n=(k(e).heads?.reads.length??0)>0,{value:i,error:r,stale:$}=z(async()=>n?Re(e,t,a):[],[e,t,a]);if(!n)return null;const l=$?[]:i??[],p=Math.max(...l.map(c=>c.share),1e-9);return s`<section aria-labelledby="readers"><h2 id="readers">Heads that read it</h2>
    ${r&&s`<${j} error=${r} />`}
    ${!$&&!r&&l.length===0&&s`<p class="note">No later attention head reads this neuron: what it adds goes on along the residual path alone.</p>`}
    ${l.length>0&&s`<ol class="ranked">${l.map(c=>s`<li key=${`${c.layer}/${c.head}`}>
        <a class="where" href=${b.head(e,c.layer,c.head)}>layer ${c.layer}, head ${c.head}</a>
        <span class="line"><${P} value=${c.share/p} /></span><b class="value">${A(c.share)}</b>
        <span class=${c.label===null?"said note":"said"}>${c.label===null?"unlabelled":`\u201C${c.label}\u201D`}${c.level!=="direct"&&s` <span class="note">· ${c.level}</span>`}</span></li>`)}</ol>
      <p class="note"><${f} name="Share" column="share" table="head_reads">What the neuron passes through the head's values, against all that the head adds along its first axis<//>; bars are drawn against the first.</p>`}</section>`}const Qe=(e,t)=>`<iframe src="${new URL(e,document.baseURI.split("#")[0]).href}" title="${t}" width="640" height="300" loading="lazy" style="border: 0"></iframe>`,Ye={"{":"\\{","}":"\\}","%":"\\%","&":"\\&",_:"\\_","#":"\\#",$:"\\$"},B=e=>e.replace(/[{}%&_#$]/g,t=>Ye[t]);function Ze(e,t,a,n=new Date().getFullYear()){const i=t?`${e} (\`\`${t}'')`:e;return`@misc{${e.replace(/[^a-z0-9]+/g,"-")},
  title        = {${B(i)}},
  howpublished = {\\url{${location.href}}},
  year         = {${n}},
  note         = {${B(m.title)}, revision ${m.revision}, schema ${m.schema}; model ${B(a.model_id)}, weights SHA-256 ${a.fingerprint}}
}`}function Y({address:e,label:t,model:a,row:n,embed:i}){return s`<${x} title="BibTeX" text=${Ze(e,t,a)} />
    <${x} title="In a page of your own" text=${Qe(i,e)} wrapped />
    <details><summary>This row as JSON</summary><${x} title=${e} text=${JSON.stringify({address:e,...n},null,1)} /></details>`}const we=`@article{ghiasi2022vision,
  title   = {What do Vision Transformers Learn? A Visual Exploration},
  author  = {Ghiasi, Amin and Kazemi, Hamid and Borgnia, Eitan and Reich, Steven and Shu, Manli and
             Goldblum, Micah and Wilson, Andrew Gordon and Goldstein, Tom},
  journal = {arXiv preprint arXiv:2212.06727},
  year    = {2022}
}`;function et(e,t){const a=m.dataset===""?"path/to/atlas":m.dataset;return`from datasets import load_dataset

atlas = ${JSON.stringify(a)}${m.dataset===""?"  # the folder of this atlas, or its hf:// address":""}
shard = f"{atlas}/${e}"
row = load_dataset("parquet", data_files=shard, split="train", filters=[("unit", "==", ${t})])[0]
row["image"], row["activation"], row["robust_mean"]`}function tt({slug:e,layer:t,unit:a,row:n,model:i}){const r=W(e,t,a),$=`${r}, ${m.title}, schema ${m.schema}. Model ${i.model.model_id}, weights SHA-256 ${i.model.fingerprint}. ${n.recipe?`Recipe ${n.recipe} (${n.recipe_hash}), seed ${n.seed}. `:""}${location.href}`;return s`<${x} title="This row in Python" text=${et(n.layer_pictures,a)} />
    <${x} title="Cite this neuron" text=${$} wrapped />
    <${x} title="Cite the method" text=${we} />
    <${Y} address=${r} label=${n.label} model=${i.model} row=${n} embed=${b.embed(e,t,a)} />`}function at({row:e,model:t,site:a}){const n=t.model;return s`<dl class="figures facts">
      <${o} name="Recipe" column="recipe" value=${e.recipe} compare=${s`settings <code>${e.recipe_hash}</code>`} />
      <${o} name="Seed" column="seed" value=${ue(e.seed)} compare="with recipe and address it gives all random numbers" />
      <${o} name="Precision" column="precision" value=${e.precision} />
      <${o} name="Start" column="start" value=${e.start} />
      <${o} name="Module" table="sites" column="path" value=${s`<code>${a.path}</code>`} compare=${`${a.activation_function}, depth ${a.depth?.toFixed(2)}`} />
      <${o} name="Weights" table="models" column="fingerprint" value=${s`<code class="hash">${n.fingerprint}</code>`} compare=${n.model_id} />
      <${o} name="Licence of the weights" table="models" column="licence" value=${n.licence} />
      <${o} name="Versions" table="models" column="stages" value=${$e(he(n).find(({stage:i})=>i==="visualize")?.software)||null} compare="that drew the picture" />
    </dl>
    <div class="curves">
      <${G} title="Activation, step by step" points=${e.loss_curve.map(([i,,r])=>[i,r])} />
      <${G} title="Objective, step by step" points=${e.loss_curve.map(([i,r])=>[i,r])} />
    </div>
    ${n.recipe_json&&s`<details><summary>All settings of the recipe</summary><pre tabindex="0"><code>${de(n.recipe_json)}</code></pre></details>`}
    <details><summary>Runs that worked on this model</summary><${ce} runs=${t.runs} /></details>`}function st({slug:e,layer:t,unit:a,row:n,model:i,trusted:r}){const $={slug:e,layer:t,unit:a},l=i.layers[t],p=k(e).stages.includes("examples");return s`${!r&&s`<${Z} row=${n} summary=${l} layer=${t} wide />`}
    <${it} ...${$} row=${n} />
    ${!p&&s`<${D} slug=${e} />`}
    <${Ce} row=${n} />
    <${Be} ...${$} />
    <${Ve} ...${$} />
    ${p&&s`<${D} slug=${e} />`}
    <${Le} row=${n} />
    <${L} id="numbers" name="Numbers" hint="every figure of this neuron, with what it means"><${Je} row=${n} summary=${l} /><//>
    <${L} id="made" name="How it was made" hint="recipe, seed, weights, versions, runs"><${at} row=${n} model=${i} site=${i.sites[t]} /><//>
    <section aria-labelledby="use"><h2 id="use">Use this</h2><${tt} ...${$} row=${n} model=${i} /></section>`}function Z({row:e,summary:t,layer:a,wide:n=!1}){const i=e.status==="failed",r=e.status!==null&&!i,$=i?`No picture: ${e.status_reason}.`:"This neuron has no picture yet.";return s`<section class="trust" aria-labelledby=${r?"trust":null}>${r&&s`<h2 id="trust">How far to trust the picture</h2>`}
    <div class=${n?"columns-2":""}><div>${r?s`<${He} row=${e} summary=${t} layer=${a} />`:s`<p class="note">${$}</p>`}</div>
      <div><${Ge} row=${e} /><${Ae} row=${e} /></div></div></section>`}const nt=()=>Promise.resolve().then(function(){return $t});function it({slug:e,layer:t,unit:a,row:n}){return k(e).layers[t]?.pictures!==void 0&&s`<${me} load=${nt} name="PicturesSection" props=${{slug:e,layer:t,unit:a,row:n}} />`}var rt=Object.freeze({__proto__:null,NeuronBelow:st,TrustSection:Z});const ot={display:"grid",gridTemplateColumns:"repeat(auto-fill, minmax(104px, 1fr))",gap:"12px 8px",margin:"12px 0"},w={display:"block",width:"100%",aspectRatio:"1",overflow:"hidden",background:"var(--sunk)"},lt={marginTop:"4px",fontSize:"13px",lineHeight:"16px"};async function ct(e,t,a){const{pictures:n,further:i}=k(e).layers[t]??{};if(n===void 0)return null;const r=`${n}/${y(a/i)}.images`;return(await fe(r,async()=>ve(await(await be(r)).arrayBuffer(),r))).filter(l=>l.unit===a)}function ut({slug:e,layer:t,unit:a,row:n}){const{value:i,error:r,stale:$}=z(()=>ct(e,t,a),[e,t,a]),l=z(async()=>n.recipe&&n.status!=="failed"?pe(e,t,a).catch(()=>null):null,[e,t,a]);if(r)return s`<section><h2>In other ways</h2><${j} error=${r} /></section>`;const p=c=>i.filter(({recipe:d})=>d===c.recipe).length>1;return s`<section aria-labelledby="pictures" class="pictures" aria-busy=${$}><h2 id="pictures">In other ways</h2>
    <div style=${ot}>
      ${n.recipe&&s`<${ee} one=${{...n,url:l.stale?null:l.value}} name=${`${n.recipe}, above`} />`}
      ${($?[]:i??[]).map(c=>s`<${ee} key=${`${c.recipe} ${c.variant}`} one=${c}
        name=${p(c)?`${c.recipe} ${c.variant+1}`:c.recipe} />`)}</div>
    <p class="note">The same neuron by other recipes. The figure is what is left of the activation when the picture is changed a little,
      mean over patches and strongest patch. Recipes aim at different things: compare what they show, not their figures alone.</p></section>`}function ee({one:e,name:t}){const a=[E(e),e.verdict_reason,e.start_image&&`Begun with ${e.start_image}.`,e.likeness!==void 0&&`Likeness to the nearest variant ${u(e.likeness)}.`];return s`<figure class="other" style=${{margin:0}}><div style=${w} title=${a.filter(Boolean).join(" ")}>
      ${e.url?s`<img style=${w} src=${e.url} alt=${`Picture by the recipe ${t}`} />`:s`<span class="note">${e.status_reason??""}</span>`}</div>
    <figcaption style=${lt}><b>${t}</b><br />${e.verdict??e.status}<br />${u(e.natural_mean)} / ${u(e.natural_peak)}</figcaption></figure>`}var $t=Object.freeze({__proto__:null,PicturesSection:ut});export{L as F,Y as T,I as a,Te as b,Me as c,Ne as d,X as e,K as f,S as h,rt as n,Se as s};
